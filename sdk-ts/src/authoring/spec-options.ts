// What classes and defineAgent read in the same way.

import type { HandlerPlan } from "./compile.js";

/** The schedules in a handler's options. */
export function schedulesOf(options: HandlerPlan["options"], name: string): HandlerPlan["schedules"] {
  const said = options.scheduled;
  if (said === undefined) {
    return [];
  }
  const all = Array.isArray(said) ? (said as HandlerPlan["schedules"]) : [said as HandlerPlan["schedules"][number]];
  return all.map((one) => ({ ...one, name: one.name ?? name }));
}

/** Whether a function is written as `async function*`. */
export function isAsyncGenerator(value: unknown): boolean {
  return Object.prototype.toString.call(value) === "[object AsyncGeneratorFunction]";
}
