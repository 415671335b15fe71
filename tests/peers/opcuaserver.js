// A node-opcua server under remote control, as a PLC would be: node opcuaserver.js '{"port": 0, ...}'
//
// Prints {"port": N} when it is up; then one JSON request per line on stdin, one JSON answer per line on stdout:
//   {"id": 1, "do": "set", "node": "Int64", "value": "-9223372036854775808", "status": "Good", "time": "..."}
//   {"id": 2, "do": "get", "node": "Int64"}
// 64-bit integers are decimal texts. It ends with its stdin.
"use strict";

const path = require("path");
const readline = require("readline");
const opcua = require(path.join(__dirname, ".installed", "node_modules", "node-opcua"));
const { AccessLevelFlag, DataType, StatusCodes, Variant, VariantArrayType } = opcua;

const PLANT = "urn:tests:plant";

// Type, first value; an array where the value is one.
const TAGS = {
  Boolean: ["Boolean", true],
  SByte: ["SByte", -128],
  Byte: ["Byte", 255],
  Int16: ["Int16", -32768],
  UInt16: ["UInt16", 65535],
  Int32: ["Int32", -2147483648],
  UInt32: ["UInt32", 4294967295],
  Int64: ["Int64", "-9223372036854775808"],
  UInt64: ["UInt64", "18446744073709551615"],
  Float: ["Float", 0.1],
  Double: ["Double", 0.1],
  String: ["String", "Größe 5 µm"],
  DateTime: ["DateTime", "2026-03-01T12:00:00.250Z"],
  Floats: ["Float", [1.5, -2.25, 3.0]],
  Booleans: ["Boolean", [true, false, true, true]],
  Long: ["Int16", Array.from({ length: 500 }, (_, i) => i - 250)],
  Longs: ["UInt64", ["0", "18446744073709551615"]],
  '"DB1"."speed"': ["Float", 12.5],
};

function words(text) {
  const bits = BigInt.asUintN(64, BigInt(text));
  return [Number(bits >> 32n), Number(bits & 0xffffffffn)];
}

function text(high, low, signed) {
  const bits = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
  return (signed ? BigInt.asIntN(64, bits) : bits).toString();
}

function native(type, value) {
  if (type === "Int64" || type === "UInt64") return words(value);
  if (type === "DateTime") return new Date(value);
  return value;
}

const ARRAYS = { Float: Float32Array, Double: Float64Array, SByte: Int8Array, Byte: Uint8Array, Int16: Int16Array,
  UInt16: Uint16Array, Int32: Int32Array, UInt32: Uint32Array };

function variant(type, value) {
  if (!Array.isArray(value)) {
    return new Variant({ dataType: DataType[type], arrayType: VariantArrayType.Scalar, value: native(type, value) });
  }
  const items = value.map((each) => native(type, each));
  const array = ARRAYS[type] ? ARRAYS[type].from(items) : items;
  return new Variant({ dataType: DataType[type], arrayType: VariantArrayType.Array, value: array });
}

function plain(given) {
  const type = DataType[given.dataType];
  const one = (value) => {
    if (type === "Int64" || type === "UInt64") return text(value[0], value[1], type === "Int64");
    return value instanceof Date ? value.toISOString() : value;
  };
  const value = given.arrayType === VariantArrayType.Array ? Array.from(given.value, one) : one(given.value);
  return { type, value };
}

function populate(addressSpace, settings, variables) {
  // The order of the namespaces is what changes when somebody loads another project into a PLC.
  for (const uri of settings.namespaces || [PLANT]) addressSpace.registerNamespace(uri);
  const plant = addressSpace.getNamespace(PLANT);
  const folder = plant.addFolder("ObjectsFolder", { browseName: "Press", nodeId: "s=Press" });
  const access = AccessLevelFlag.CurrentRead | AccessLevelFlag.CurrentWrite;
  const add = (name, dataType, more) =>
    plant.addVariable({ componentOf: folder, browseName: name, nodeId: `s=${name}`, dataType, accessLevel: access,
      userAccessLevel: access, ...more });
  for (const [name, [dataType, value]] of Object.entries(TAGS)) {
    const rank = Array.isArray(value) ? { valueRank: 1 } : {};
    const node = add(name, dataType, { ...rank, minimumSamplingInterval: 10 });
    node.setValueFromSource(variant(dataType, value));
    variables.set(name, node);
  }
  const read = AccessLevelFlag.CurrentRead;
  add("ReadOnly", "Int32", { accessLevel: read, userAccessLevel: read }).setValueFromSource(variant("Int32", 7));
  const write = AccessLevelFlag.CurrentWrite;
  add("WriteOnly", "Int32", { accessLevel: write, userAccessLevel: write }).setValueFromSource(variant("Int32", 7));
  const temperature = plant.addAnalogDataItem({ componentOf: folder, browseName: "temperature", nodeId: "i=1001",
    description: "die, left", dataType: "Double", engineeringUnitsRange: { low: 0, high: 400 },
    engineeringUnits: opcua.standardUnits.degree_celsius });
  temperature.setValueFromSource(variant("Double", 21.5));
  for (let i = 0; i < (settings.many || 0); i++) {
    const node = add(`m${i}`, "Int32", {});
    node.setValueFromSource(variant("Int32", i));
  }
}

function act(request, variables) {
  const node = variables.get(request.node);
  if (request.do === "get") return plain(node.readValue().value);
  if (request.do !== "set") throw new Error(`no ${request.do}`);
  const type = request.type || TAGS[request.node][0];
  const value = request.value === null ? new Variant() : variant(type, request.value);
  const status = StatusCodes[request.status || "Good"];
  node.setValueFromSource(value, status, request.time ? new Date(request.time) : new Date());
  return null;
}

async function main() {
  const settings = JSON.parse(process.argv[2]);
  const manager = new opcua.OPCUACertificateManager({
    rootFolder: settings.pki,
    automaticallyAcceptUnknownCertificate: settings.accept !== false,
  });
  await manager.initialize();
  const server = new opcua.OPCUAServer({
    port: settings.port || 0,
    host: "127.0.0.1",
    certificateFile: settings.certificate,
    privateKeyFile: settings.key,
    serverCertificateManager: manager,
    securityPolicies: (settings.policies || ["None", "Basic256Sha256"]).map((name) => opcua.SecurityPolicy[name]),
    securityModes: (settings.modes || ["None", "Sign", "SignAndEncrypt"]).map((name) => opcua.MessageSecurityMode[name]),
    allowAnonymous: settings.anonymous !== false,
    userManager: { isValidUser: (user, password) => user === "line" && password === settings.password },
    serverInfo: { applicationUri: settings.uri, productUri: "urn:tests:product", applicationName: { text: "Press" } },
    buildInfo: { productName: "Press PLC", productUri: "urn:tests:product", softwareVersion: "2.1", buildNumber: "7",
      manufacturerName: "ACME", buildDate: new Date() },
    serverCapabilities: { maxSessions: settings.sessions || 50,
      operationLimits: { maxNodesPerRead: settings.maxNodesPerRead || 0 } },
    discoveryServerEndpointUrl: null,
    registerServerMethod: opcua.RegisterServerMethod.HIDDEN,
  });
  await server.initialize();
  const variables = new Map();
  populate(server.engine.addressSpace, settings, variables);
  await server.start();
  const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
  say({ port: server.endpoints[0].port });
  const lines = readline.createInterface({ input: process.stdin });
  lines.on("line", (line) => {
    const request = JSON.parse(line);
    try {
      say({ id: request.id, result: act(request, variables) });
    } catch (error) {
      say({ id: request.id, error: String(error) });
    }
  });
  lines.on("close", () => process.exit(0));
}

main().catch((error) => {
  process.stderr.write(`${error.stack || error}\n`, () => process.exit(1));
});
