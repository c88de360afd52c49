// Name and version of this package, as it tells the engine. A test holds them against package.json.

/** This SDK. */
export const SOFTWARE = { name: "amx-engine-ts", version: "0.1.0" } as const;
