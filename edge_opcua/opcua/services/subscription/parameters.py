"""The parameters of the MonitoredItem services; enumerations as they come, as an unknown one has its code."""

from __future__ import annotations

from dataclasses import dataclass, field

from asyncua import ua


@dataclass
class CreateRequest:
    """MonitoredItemCreateRequest."""

    ItemToMonitor: ua.ReadValueId = field(default_factory=ua.ReadValueId)
    MonitoringMode: ua.Int32 = 0
    RequestedParameters: ua.MonitoringParameters = field(default_factory=ua.MonitoringParameters)


@dataclass
class CreateParameters:
    """The parameters of CreateMonitoredItems."""

    SubscriptionId: ua.UInt32 = 0
    TimestampsToReturn: ua.Int32 = 0
    ItemsToCreate: list[CreateRequest] = field(default_factory=list)


@dataclass
class ModifyParameters:
    """The parameters of ModifyMonitoredItems."""

    SubscriptionId: ua.UInt32 = 0
    TimestampsToReturn: ua.Int32 = 0
    ItemsToModify: list[ua.MonitoredItemModifyRequest] = field(default_factory=list)


@dataclass
class ModeParameters:
    """The parameters of SetMonitoringMode."""

    SubscriptionId: ua.UInt32 = 0
    MonitoringMode: ua.Int32 = 0
    MonitoredItemIds: list[ua.UInt32] = field(default_factory=list)
