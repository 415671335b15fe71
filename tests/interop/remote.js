// node-opcua under remote control: one JSON request per line on stdin, one JSON answer per line on stdout.
//
//   {"id": 1, "do": "make", "what": "OPCUAClient.create", "args": [...], "as": "client"}
//   {"id": 2, "do": "call", "on": "client", "what": "connect", "args": ["opc.tcp://..."]}
//   {"id": 3, "do": "collect", "on": "item", "what": "changed", "as": "values"}      remembers what an emitter says
//   {"id": 4, "do": "taken", "on": "values"}                                         returns it, and forgets it
//   {"id": 5, "do": "send", "on": "session", "what": "SetTriggeringRequest", "args": [{...}]}   a raw request
//
// Arguments are plain JSON; {"$": "Name", ...} becomes `new Name({...})`, {"$enum": "SecurityPolicy.None"} a member
// of node-opcua, {"$on": "name"} something that was made before, {"$hex": "00ff"} a Buffer.
"use strict";

const path = require("path");
const readline = require("readline");
const opcua = require(path.join(__dirname, "..", "peers", ".installed", "node_modules", "node-opcua"));

const made = new Map();

function lookup(name) {
  return name.split(".").reduce((at, part) => at[part], opcua);
}

// JSON to what node-opcua wants.
function revive(value) {
  if (Array.isArray(value)) return value.map(revive);
  if (value === null || typeof value !== "object") return value;
  if (value.$enum !== undefined) return lookup(value.$enum);
  if (value.$on !== undefined) return made.get(value.$on);
  if (value.$hex !== undefined) return Buffer.from(value.$hex, "hex");
  const fields = {};
  for (const key of Object.keys(value)) if (key !== "$") fields[key] = revive(value[key]);
  return value.$ === undefined ? fields : new (lookup(value.$))(fields);
}

// What node-opcua gave, as plain JSON: statuses as numbers, NodeIds and texts as strings, 64-bit as it has them.
function plain(value, depth = 0) {
  if (value === undefined || value === null || typeof value === "boolean" || typeof value === "string") return value ?? null;
  if (typeof value === "number") return Number.isFinite(value) ? value : String(value);
  if (typeof value === "bigint") return value.toString();
  if (typeof value === "function" || depth > 12) return null;
  if (value instanceof Date) return value.toISOString();
  if (Buffer.isBuffer(value)) return { hex: value.toString("hex") };
  if (Array.isArray(value) || ArrayBuffer.isView(value)) return Array.from(value, (each) => plain(each, depth + 1));
  const kind = value.constructor ? value.constructor.name : "";
  if (/StatusCode/.test(kind) && typeof value.value === "number") return value.value;
  if (kind === "NodeId" || kind === "ExpandedNodeId" || kind === "QualifiedName") return value.toString();
  if (kind === "LocalizedText") return value.text;
  const out = {};
  for (const key of Object.keys(value)) {
    if (!key.startsWith("_") && typeof value[key] !== "function") out[key] = plain(value[key], depth + 1);
  }
  return out;
}

// Sessions, subscriptions and such hold sockets and timers: they stay here under their name.
function answer(value, name) {
  if (name === undefined) return plain(value);
  made.set(name, value);
  return null;
}

function collect(emitter, what, name) {
  const found = [];
  made.set(name, found);
  emitter.on(what, (...said) => {
    if (found.length < 100000) found.push(plain(said.length === 1 ? said[0] : said));
  });
  return null;
}

async function act(request) {
  const target = request.on === undefined ? undefined : made.get(request.on);
  const args = (request.args || []).map(revive);
  switch (request.do) {
    case "make": {
      const parts = request.what.split(".");
      const owner = parts.length > 1 ? lookup(parts.slice(0, -1).join(".")) : opcua;
      const found = lookup(request.what);
      const value = request.new ? new found(...args) : await found.apply(owner, args);
      return answer(value, request.as);
    }
    case "call": {
      const owner = request.what.split(".").slice(0, -1).reduce((at, part) => at[part], target);
      const value = await owner[request.what.split(".").pop()](...args);
      if (request.collect) collect(value, request.collect, `${request.as}.seen`); // before the next packet is read
      return answer(value, request.as);
    }
    case "get":
      return answer(request.what ? request.what.split(".").reduce((at, part) => at[part], target) : target, request.as);
    case "collect":
      return collect(target, request.what, request.as);
    case "taken":
      return target.splice(0);
    case "send": {
      const message = new (lookup(request.what))(args[0] || {});
      return plain(await target.performMessageTransaction(message));
    }
    default:
      throw new Error(`unknown: ${request.do}`);
  }
}

// One request after the other, unless it says "aside": Publish and slow methods wait for each other's answers.
let turn = Promise.resolve();
readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const request = JSON.parse(line);
  const run = async () => {
    let reply;
    try {
      reply = { id: request.id, result: (await act(request)) ?? null };
    } catch (error) {
      const code = error.response && error.response.responseHeader && error.response.responseHeader.serviceResult;
      reply = { id: request.id, error: String(error.message || error), status: code ? code.value : null };
    }
    process.stdout.write(`@${JSON.stringify(reply)}\n`);
  };
  if (request.aside) run(); else turn = turn.then(run);
}).on("close", () => process.exit(0));
