"""How much a client may take: what is advertised in ServerCapabilities is what is enforced."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class OperationLimits:
    """Most operations in one request, under their names in Part 5 §6.3.11; more get BadTooManyOperations.

    Args:
        read: MaxNodesPerRead.
        write: MaxNodesPerWrite.
        call: MaxNodesPerMethodCall.
        browse: MaxNodesPerBrowse.
        register: MaxNodesPerRegisterNodes.
        translate: MaxNodesPerTranslateBrowsePathsToNodeIds.
        items: MaxMonitoredItemsPerCall.
        history: MaxNodesPerHistoryReadData and MaxNodesPerHistoryReadEvents.
        subscriptions: Subscriptions named in one request; not advertised, OPC UA has no property for it.
        acknowledgements: Messages acknowledged in one Publish request; not advertised either.
    """

    read: int = 10_000
    write: int = 1000
    call: int = 100
    browse: int = 1000
    register: int = 10_000
    translate: int = 1000
    items: int = 10_000
    history: int = 100
    subscriptions: int = 1000
    acknowledgements: int = 10_000


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """How much one server, and one client of it, may take.

    Args:
        connections: TCP connections, each with one secure channel, at once. If there is no place for another,
            the oldest one without an activated session gives way (Part 4 §5.5.2).
        per_address: The same from one address; of IPv6 the first 64 bits are the address.
        connects_per_s: New connections from one address per second in the long run; more are dropped.
        connect_burst: New connections from one address that may come at once.
        addresses: Addresses whose rate is kept; more share one.
        sessions: Sessions at once.
        subscriptions: Subscriptions at once, all sessions together; the last tenth for sessions with few.
        subscriptions_per_session: Subscriptions of one session at once.
        items: Monitored items at once, all subscriptions together; the last tenth for sessions with few.
        items_per_subscription: Monitored items of one subscription.
        queue: Longest queue of a monitored item.
        queued: Places in the queues of all items together, beyond the first of each; an item whose clients
            have no more gets a shorter queue. Nobody takes more than half of what the others left.
        column_groups: Groups of items on tags that are looked at together, as those of one block with one
            sampling interval; what would need more is looked at item by item. One client: as with the queues.
        links: Links between triggering and triggered items of one subscription.
        readings_per_s: How often all items of nodes that nobody tells about are read together; more of them
            get a longer interval, or BadTooManyMonitoredItems. One client: as with the queues.
        select_clauses: Most select clauses of an event filter (MaxSelectClauseParameters).
        where_operands: Most operands in a where clause (MaxWhereClauseParameters).
        notifications_per_publish: Most notifications in one message, whatever the client allows.
        publish_requests: Publish requests of one session that wait; the oldest is answered with an error.
        subscription_lifetime_s: Longest time that a subscription lives without its client.
        retransmission: Messages of one subscription kept for Republish.
        retransmission_bytes: The same in bytes, all subscriptions together; then the oldest are forgotten
            before that. One client: as with the queues.
        browse_continuation_points: Browse continuation points of one session.
        references_per_node: Most references in one Browse result, whatever the client allows.
        message_bytes: Largest request of an activated session.
        early_message_bytes: Largest request before that.
        array_length: Longest array in a request.
        string_bytes: Longest string in a request.
        unfolded_bytes: What a request may take in memory once it is decoded, estimated before it is.
        nesting: Deepest nesting of Variants, ExtensionObjects and DiagnosticInfos in a request, and most
            dimensions of an array (Part 6 §5.1.5 wants 100 levels).
        requests_per_s: Requests of one connection per second in the long run; more get BadServerTooBusy.
        request_burst: Requests of one connection that may come at once.
        early_requests_per_s: The same without an activated session: discovery, and what leads to a session.
        early_request_burst: The same at once.
        renewal_cost: How many requests one OpenSecureChannel counts as: it makes us use the private key.
        busy_batch: After as many refusals nothing is read until that many requests are allowed again.
        busy_answers: Refusals while more requests wait already, after which the connection ends.
        response_bytes: Largest answer; more is BadResponseTooLarge.
        plan_bytes: What is kept of lists that clients read again and again, with the last answer to each. One
            client: as with the queues.
        unread_bytes: Answers a client may leave unread before it is cut off.
        early_unread_bytes: The same without an activated session.
        all_unread_bytes: The same of all clients together. One client: as with the queues.
        waiting_messages: Requests of one connection that wait; then we read no more from it.
        early_waiting_messages: The same without an activated session.
        in_flight: Writes and calls of one connection at once; more get BadServerTooBusy.
        in_flight_bytes: Requests of writes and calls of one connection at once, as they were sent.
        recheck_s: How often open channels look whether the trust lists changed.
        hello_s: A connection that sends no Hello ends after this time (Part 6 §7.1.3).
        activation_s: A connection without an activated session ends after this time.
        min_lifetime_s: Shortest lifetime of a channel token.
        max_lifetime_s: Longest lifetime of a channel token.
        min_publishing_ms: Shortest publishing interval.
        max_publishing_ms: Longest publishing interval.
        min_sampling_ms: Shortest sampling interval.
        min_reading_ms: The same where nobody tells of changes, so that each sample is a reading.
        max_sampling_ms: Longest sampling interval.
        trust_list_bytes: Largest trust list that a certificate manager may write (MaxTrustListSize).
        write_s: Longest time for one value of a Write; then BadTimeout.
        request_s: Longest time for a whole Write or Call.
        operations: Most operations in one request.
    """

    connections: int = 200
    per_address: int = 100
    connects_per_s: float = 30.0
    connect_burst: int = 300
    addresses: int = 4096
    sessions: int = 100
    subscriptions: int = 400
    subscriptions_per_session: int = 100
    items: int = 200_000
    items_per_subscription: int = 100_000
    queue: int = 1000
    queued: int = 1_000_000
    column_groups: int = 8192
    links: int = 10_000
    readings_per_s: int = 5000
    select_clauses: int = 1000
    where_operands: int = 1000
    notifications_per_publish: int = 20_000
    publish_requests: int = 100
    subscription_lifetime_s: float = 3600.0
    retransmission: int = 100
    retransmission_bytes: int = 128 * 1024 * 1024
    browse_continuation_points: int = 10
    references_per_node: int = 1000
    message_bytes: int = 4 * 1024 * 1024
    early_message_bytes: int = 64 * 1024
    array_length: int = 500_000
    string_bytes: int = 1024 * 1024
    unfolded_bytes: int = 32 * 1024 * 1024
    nesting: int = 100
    requests_per_s: float = 2000.0
    request_burst: int = 4000
    early_requests_per_s: float = 5.0
    early_request_burst: int = 30
    renewal_cost: int = 100
    busy_batch: int = 100
    busy_answers: int = 1000
    response_bytes: int = 16 * 1024 * 1024
    plan_bytes: int = 32 * 1024 * 1024
    unread_bytes: int = 32 * 1024 * 1024
    early_unread_bytes: int = 256 * 1024
    all_unread_bytes: int = 256 * 1024 * 1024
    waiting_messages: int = 64
    early_waiting_messages: int = 4
    in_flight: int = 32
    in_flight_bytes: int = 8 * 1024 * 1024
    recheck_s: float = 10.0
    hello_s: float = 5.0
    activation_s: float = 15.0
    min_lifetime_s: float = 10.0
    max_lifetime_s: float = 3600.0
    min_publishing_ms: float = 10.0
    max_publishing_ms: float = 3_600_000.0
    min_sampling_ms: float = 10.0
    min_reading_ms: float = 100.0
    max_sampling_ms: float = 3_600_000.0
    trust_list_bytes: int = 256 * 1024
    write_s: float = 30.0
    request_s: float = 60.0
    operations: OperationLimits = field(default_factory=OperationLimits)
