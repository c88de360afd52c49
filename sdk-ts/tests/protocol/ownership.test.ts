// The owner of an instance: the same in every language and in the engine; the vectors are those of docs/protocol.md.

import { expect, it } from "vitest";
import { instanceHash, ownerOf } from "../../src/protocol/ownership.js";

it.each([
  ["default", "Echo", "default", 2225382578, [0, 2, 2, 2]],
  ["default", "Greeter", "Ada", 2843730321, [1, 0, 1, 1]],
  ["tenant-7", "Order", "é", 1546130627, [1, 2, 3, 3]],
] as const)("%s %s/%s belongs to whom the documents say", (namespace, agent, key, hash, owners) => {
  expect(instanceHash(namespace, agent, key)).toBe(hash);
  expect([2, 3, 4, 8].map((engines) => ownerOf(namespace, agent, key, engines))).toEqual(owners);
});

it("takes an empty key for the default one", () => {
  expect(ownerOf("default", "Echo", "", 64)).toBe(ownerOf("default", "Echo", "default", 64));
});
