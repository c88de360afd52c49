// What the testee was started with; see conformance/README.md, "Testees".

import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    stdio: { type: "boolean", default: false },
    connect: { type: "string", default: "" },
    prefix: { type: "string", default: "" },
    agents: { type: "string", default: "" },
    credit: { type: "string", default: "64" },
  },
});

if (values.stdio === (values.connect !== "")) {
  console.error("start it with --stdio or with --connect host:port");
  process.exit(2);
}

export const given = { ...values, credit: Number(values.credit) };

/** The name of a fixture in this process. */
export function named(name: string): string {
  return given.prefix + name;
}
