// The peer: node-opcua's server with its documented API; its producer is inside. One JSON order per line.
"use strict";
const path = require("path");
const readline = require("readline");

console.log = console.info = console.warn = console.error; // the output is for answers
const installed = process.argv[2];
const opcua = require(path.join(installed, "node-opcua"));
const { DataType, Variant, VariantArrayType, StatusCodes, MonitoredItem, OPCUAServer, MessageSecurityMode, SecurityPolicy } = opcua;
const { Subscription } = require(path.join(installed, "node-opcua-server"));

const FOLDER = 100;
const BREATH = 1000;
const BURST_MS = 20;
// The order of the types and what each can carry: values.py.
const KINDS = ["Boolean", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double"];
const BITS = { Boolean: 1, SByte: 8, Byte: 8, Int16: 16, UInt16: 16, Int32: 32, UInt32: 32, Int64: 53, UInt64: 53, Float: 24, Double: 53 };
const SIGNED = { SByte: 8, Int16: 16, Int32: 32 };

const name = (item) => `t${String(item).padStart(6, "0")}`;
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const monotonicUs = () => Number(process.hrtime.bigint() / 100n) / 10;
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const breath = () => new Promise((done) => setImmediate(done));

function value(kind, sequence, item) {
  const bits = (sequence + 7 * item) % 2 ** BITS[kind];
  if (kind === "Boolean") return bits === 1;
  if (kind === "Int64" || kind === "UInt64") return [Math.floor(bits / 2 ** 32), bits % 2 ** 32];
  const width = SIGNED[kind];
  return width && bits >= 2 ** (width - 1) ? bits - 2 ** width : bits;
}

class Peer {
  constructor(order) {
    this.order = order;
    this.sequence = 0;
    this.variables = [];
  }

  async serve() {
    Subscription.minimumPublishingInterval = 1;
    MonitoredItem.minimumSamplingInterval = 0;
    const options = {
      hostname: "127.0.0.1",
      port: 0,
      allowAnonymous: true,
      maxConnectionsPerEndpoint: 200,
      securityModes: [MessageSecurityMode.None, MessageSecurityMode.SignAndEncrypt],
      securityPolicies: [SecurityPolicy.None, SecurityPolicy.Basic256Sha256],
      serverCapabilities: {
        maxSessions: 200,
        maxSubscriptions: 400,
        maxSubscriptionsPerSession: 100,
        maxMonitoredItems: 1000000,
        maxMonitoredItemsPerSubscription: 1000000,
        maxMonitoredItemsQueueSize: 10000,
        minSupportedSampleRate: 0,
        operationLimits: { maxNodesPerRead: 10000, maxNodesPerBrowse: 10000, maxMonitoredItemsPerCall: 10000 },
      },
      serverInfo: { applicationUri: this.order.uri },
      certificateFile: this.order.certificate,
      privateKeyFile: this.order.key,
      buildInfo: { productName: "bench" },
      isAuditing: false,
      disableDiscovery: true,
    };
    options.serverCertificateManager = new opcua.OPCUACertificateManager({
      automaticallyAcceptUnknownCertificate: true,
      rootFolder: this.order.root,
    });
    await options.serverCertificateManager.initialize();
    this.server = new OPCUAServer(options);
    await this.server.initialize();
    this.fill();
    await this.server.start();
    const endpoint = this.server.endpoints[0].endpointDescriptions()[0].endpointUrl;
    const port = new URL(endpoint.replace("opc.tcp", "http")).port || this.server.endpoints[0].port;
    say({ url: `opc.tcp://127.0.0.1:${port}`, nodes: "ns=1;s={}", folder: "ns=1;s=folder", method: "ns=1;s=echo" });
  }

  fill() {
    const space = this.server.engine.addressSpace;
    const own = space.getOwnNamespace();
    const parent = own.addFolder(space.rootFolder.objects, { browseName: "folder", nodeId: "s=folder" });
    let place = parent;
    for (let item = 0; item < this.order.tags; item++) {
      if (!this.order.flat && item % FOLDER === 0) {
        place = own.addFolder(parent, { browseName: `f${item}`, nodeId: `s=f${item}` });
      }
      const kind = this.order.doubles ? "Double" : KINDS[item % KINDS.length];
      const variable = own.addVariable({
        organizedBy: place,
        browseName: name(item),
        nodeId: `s=${name(item)}`,
        dataType: kind,
        minimumSamplingInterval: 0,
        value: new Variant({ dataType: DataType[kind], arrayType: VariantArrayType.Scalar, value: value(kind, 0, item) }),
      });
      this.variables.push([variable, kind, DataType[kind]]);
    }
    const method = own.addMethod(parent, {
      browseName: "echo",
      nodeId: "s=echo",
      inputArguments: [{ name: "number", dataType: DataType.UInt32 }],
      outputArguments: [{ name: "number", dataType: DataType.UInt32 }],
    });
    method.bindMethod((given, context, answer) =>
      answer(null, { statusCode: StatusCodes.Good, outputArguments: [given[0]] }));
  }

  async run(order) {
    const [first, end] = order.items;
    const times = order.what === "times";
    const arrayType = VariantArrayType.Scalar;
    const periodMs = 1000 / order.hz;
    const begun = performance.now();
    const until = begun + order.seconds * 1000;
    let due = begun;
    let cycles = 0;
    while (due < until && performance.now() < until + 1000) {
      const now = performance.now();
      if (now < due) await pause(Math.max(1, due - now));
      else if (now - due > BURST_MS && periodMs < BURST_MS) due = now;
      if (performance.now() < due) continue;
      this.sequence += 1;
      const stamp = new Date();
      for (let item = first; item < end; item++) {
        const [variable, kind, dataType] = this.variables[item];
        const shown = times ? monotonicUs() : value(kind, this.sequence, item);
        variable.setValueFromSource({ dataType, arrayType, value: shown }, StatusCodes.Good, stamp);
        if (item % BREATH === BREATH - 1) await breath();
      }
      cycles += 1;
      due += periodMs;
      await breath();
    }
    const seconds = Math.max((performance.now() - begun) / 1000, (cycles * periodMs) / 1000);
    return { cycles, sequence: this.sequence, seconds };
  }

  async events(order) {
    const source = this.server.engine.addressSpace.rootFolder.objects.server;
    const begun = performance.now();
    let count = 0;
    for (let passed = 0; passed < order.seconds; passed = (performance.now() - begun) / 1000) {
      const due = passed * order.hz;
      while (count < due) {
        source.raiseEvent("BaseEventType", {
          message: { dataType: DataType.LocalizedText, value: { text: String(count) } },
          severity: { dataType: DataType.UInt16, value: 500 },
        });
        count += 1;
        if (count % 100 === 0) {
          await breath();
          if ((performance.now() - begun) / 1000 > order.seconds) break;
        }
      }
      await pause(20); // EVENTS_PERIOD_S of the others
    }
    return { cycles: count, seconds: (performance.now() - begun) / 1000 };
  }
}

async function main() {
  let peer;
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const order = JSON.parse(line);
    if (!peer) {
      peer = new Peer(order);
      await peer.serve();
    } else if (order.do === "run") {
      say(await peer.run(order));
    } else if (order.do === "events") {
      say(await peer.events(order));
    }
  }
  process.exit(0);
}

main().catch((error) => {
  process.stderr.write(`${error.stack || error}\n`, () => process.exit(1));
});
