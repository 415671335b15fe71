// Loads NodeSet2 files with node-opcua and prints every node of one namespace: node nodeset.js URI FILE...
"use strict";
const path = require("path");
const { AddressSpace, NodeClass, nodesets } = require(
  path.join(__dirname, "..", "peers", ".installed", "node_modules", "node-opcua"));
const { generateAddressSpace } = require(
  path.join(__dirname, "..", "peers", ".installed", "node_modules", "node-opcua-address-space", "nodeJS"));

async function main() {
  const [uri, ...files] = process.argv.slice(2);
  const addressSpace = AddressSpace.create();
  // Index 1 is a server's own namespace, as it is in ours.
  addressSpace.registerNamespace("urn:tests:server");
  await generateAddressSpace(addressSpace, [nodesets.standard, ...files]);
  const index = addressSpace.getNamespaceIndex(uri);
  const found = {};
  const namespace = addressSpace.getNamespace(uri);
  for (const node of namespace.nodeIterator()) {
    const text = (id) => (id ? id.toString() : null);
    const value = node.nodeClass === NodeClass.Variable ? node.readValue().value : null;
    found[node.nodeId.toString()] = {
      browseName: node.browseName.toString(),
      nodeClass: NodeClass[node.nodeClass],
      dataType: node.nodeClass === NodeClass.Variable ? text(node.dataType) : null,
      valueRank: node.nodeClass === NodeClass.Variable ? node.valueRank : null,
      type: text(node.typeDefinition || null),
      value: value && value.value !== null ? JSON.parse(JSON.stringify(value.value)) : null,
    };
  }
  addressSpace.dispose();
  process.stdout.write(`${JSON.stringify({ index, nodes: found })}\n`, () => process.exit(0));
}

main().catch((error) => {
  process.stderr.write(`${error.stack || error}\n`, () => process.exit(1));
});
