// Capabilities: dependencies that are built at first use, shared by the instances of a class, and disposed of at the end.

type Build = (this: object) => unknown;

// Class -> name -> what was built, or the promise of it.
const built = new WeakMap<object, Map<string, unknown>>();

function shelf(owner: object): Map<string, unknown> {
  let found = built.get(owner);
  if (found === undefined) {
    found = new Map();
    built.set(owner, found);
  }
  return found;
}

/** The function that takes the place of `build`: it builds once for each class. A build that failed is repeated. */
// biome-ignore lint/suspicious/noExplicitAny: it takes the place of any method
export function sharedCapability(name: string, build: (this: any, ...given: any[]) => unknown): Build {
  return function shared(this: object): unknown {
    const known = shelf(this.constructor);
    if (!known.has(name)) {
      const made: unknown = build.call(this);
      known.set(name, made);
      if (made instanceof Promise) {
        made.catch(() => {
          if (known.get(name) === made) {
            known.delete(name);
          }
        });
      }
    }
    return known.get(name);
  };
}

/** Puts `value` in the place of a capability, for example in a test. The old one is not disposed of. */
export function replaceCapability(
  owner: abstract new (...given: never[]) => object,
  name: string,
  value: unknown,
): void {
  shelf(owner).set(name, value);
}

/**
 * Disposes of what was built for a class, by `[Symbol.asyncDispose]`, `[Symbol.dispose]`, `close` or `destroy`; it may be built
 * anew afterwards. All are disposed of even if one fails; then the first error is thrown.
 */
export async function closeCapabilities(owner: object): Promise<void> {
  const known = [...shelf(owner).values()];
  shelf(owner).clear();
  const errors: unknown[] = [];
  for (const one of known) {
    try {
      await dispose(await one);
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 0) {
    throw errors[0];
  }
}

async function dispose(one: unknown): Promise<void> {
  if (typeof one !== "object" || one === null) {
    return;
  }
  const symbols = Symbol as unknown as { asyncDispose?: symbol; dispose?: symbol };
  for (const name of [symbols.asyncDispose, symbols.dispose, "close", "destroy"]) {
    const method = name === undefined ? undefined : (one as Record<PropertyKey, unknown>)[name];
    if (typeof method === "function") {
      await method.call(one);
      return;
    }
  }
}
