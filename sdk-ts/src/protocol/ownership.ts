// Which of several engines owns an instance: a hash that every language computes alike; see docs/protocol.md.

const encoder = new TextEncoder();

/** 32 bits of namespace, agent and key: FNV-1a, finished with the mixing steps of MurmurHash3. */
export function instanceHash(namespace: string, agent: string, key: string): number {
  let value = 0x811c9dc5;
  for (const byte of encoder.encode(`${namespace}\0${agent}\0${key}`)) value = Math.imul(value ^ byte, 0x01000193);
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}

/** The number of the engine, of `engines`, that owns `agent/key`; an empty key is `default`. */
export function ownerOf(namespace: string, agent: string, key: string, engines: number): number {
  return instanceHash(namespace, agent, key || "default") % engines;
}
