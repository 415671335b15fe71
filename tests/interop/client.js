// A client that is not asyncua: connects over the encrypted endpoint, reads, subscribes, gets events, calls
// LoadModel, and prints what it saw as JSON. Usage:
//   node client.js '{"endpoint": "...", "certificate": "...", "privateKey": "...", "pki": "...", ...}'
"use strict";

const path = require("path");
const modules = path.join(__dirname, "..", "peers", ".installed", "node_modules");
const {
  AttributeIds, DataType, MessageSecurityMode, OPCUACertificateManager,
  OPCUAClient, SecurityPolicy, TimestampsToReturn, constructEventFilter, ofType,
} = require(path.join(modules, "node-opcua"));

const job = JSON.parse(process.argv[2]);

function plain(variant) {
  if (!variant || variant.value === null || variant.value === undefined) return null;
  const value = variant.value;
  if (variant.dataType === DataType.NodeId) return value.toString();
  if (variant.dataType === DataType.ByteString) return value.toString("hex");
  if (variant.dataType === DataType.StatusCode) return value.value;
  if (value instanceof Date) return value.toISOString();
  if (ArrayBuffer.isView(value) || Array.isArray(value)) return Array.from(value, (each) => structure(each));
  return structure(value);
}

// Extension objects as plain objects, with enumerations as numbers and texts as strings.
function structure(value) {
  if (value === null || typeof value !== "object") return value;
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value) || ArrayBuffer.isView(value)) return Array.from(value, (each) => structure(each));
  if (value.constructor && value.constructor.name === "LocalizedText") return value.text;
  if (value.constructor && value.constructor.name === "Variant") return plain(value);
  const out = {};
  for (const key of Object.keys(value)) {
    if (!key.startsWith("_") && typeof value[key] !== "function") out[key] = structure(value[key]);
  }
  return out;
}

async function browse(session, nodeId) {
  const found = await session.browse({
    nodeId, referenceTypeId: "HierarchicalReferences", includeSubtypes: true, resultMask: 63,
  });
  return (found.references || []).map((each) => each.browseName.toString());
}

async function main() {
  const certificates = new OPCUACertificateManager({
    rootFolder: job.pki, automaticallyAcceptUnknownCertificate: true,
  });
  await certificates.initialize();
  const client = OPCUAClient.create({
    applicationName: "node-opcua interop",
    applicationUri: job.applicationUri,
    certificateFile: job.certificate,
    privateKeyFile: job.privateKey,
    clientCertificateManager: certificates,
    securityMode: MessageSecurityMode.SignAndEncrypt,
    securityPolicy: SecurityPolicy.Basic256Sha256,
    connectionStrategy: { maxRetry: 0, initialDelay: 100 },
    endpointMustExist: false,
  });
  const seen = { values: {}, notifications: {}, events: {}, browse: {} };
  await client.connect(job.endpoint);
  const session = await client.createSession();
  try {
    seen.namespaces = (await session.readNamespaceArray());
    for (const nodeId of job.browse || []) seen.browse[nodeId] = await browse(session, nodeId);
    for (const nodeId of job.read || []) {
      const found = await session.read({ nodeId, attributeId: AttributeIds.Value });
      seen.values[nodeId] = {
        value: plain(found.value),
        type: DataType[found.value.dataType],
        status: found.statusCode.value,
        name: found.statusCode.name,
        source: found.sourceTimestamp ? found.sourceTimestamp.toISOString() : null,
        server: found.serverTimestamp ? found.serverTimestamp.toISOString() : null,
      };
    }
    const subscription = await session.createSubscription2({
      requestedPublishingInterval: 50, requestedLifetimeCount: 600, requestedMaxKeepAliveCount: 20,
      maxNotificationsPerPublish: 0, publishingEnabled: true, priority: 0,
    });
    for (const nodeId of job.monitor || []) {
      seen.notifications[nodeId] = [];
      const item = await subscription.monitor(
        { nodeId, attributeId: AttributeIds.Value }, { samplingInterval: 0, queueSize: 100, discardOldest: true },
        TimestampsToReturn.Both);
      item.on("changed", (found) =>
        seen.notifications[nodeId].push({ value: plain(found.value), status: found.statusCode.value }));
    }
    for (const nodeId of job.notifiers || []) {
      seen.events[nodeId] = [];
      // What event viewers ask for: everything that is an event at all.
      const filter = constructEventFilter(job.fields, ofType("BaseEventType"));
      const item = await subscription.monitor(
        { nodeId, attributeId: AttributeIds.EventNotifier },
        { samplingInterval: 0, queueSize: 1000, discardOldest: true, filter }, TimestampsToReturn.Both);
      item.on("changed", (fields) => {
        const event = {};
        job.fields.forEach((name, index) => { event[name] = plain(fields[index]); });
        seen.events[nodeId].push(event);
      });
    }
    // The test begins to act when it sees this line.
    process.stdout.write("READY\n");
    if (job.loadModel) {
      const [name, version, sha256] = job.loadModel;
      const started = process.hrtime.bigint();
      const answer = await session.call({
        objectId: job.models, methodId: job.method,
        inputArguments: [
          { dataType: DataType.String, value: name },
          { dataType: DataType.UInt32, value: version },
          { dataType: DataType.String, value: sha256 },
        ],
      });
      seen.loadModel = {
        status: answer.statusCode.value,
        outputs: (answer.outputArguments || []).map(plain),
        ms: Number(process.hrtime.bigint() - started) / 1e6,
      };
    }
    for (const { nodeId, value, dataType } of job.write || []) {
      const status = await session.write({
        nodeId, attributeId: AttributeIds.Value, value: { value: { dataType: DataType[dataType], value } },
      });
      (seen.writes = seen.writes || {})[nodeId] = status.value;
    }
    const enough = () =>
      (job.notifiers || []).every((nodeId) => seen.events[nodeId].length >= (job.events || 0));
    const end = Date.now() + (job.withinMs || 10000);
    while (!enough() && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 20));
    await subscription.terminate();
  } finally {
    await session.close();
    await client.disconnect();
  }
  process.stdout.write(`${JSON.stringify(seen)}\n`, () => process.exit(0));
}

main().catch((error) => {
  process.stderr.write(`${error.stack || error}\n`, () => process.exit(1));
});
