// How the tests run: unit tests beside the source, tests with a real engine in tests/.
import { defineConfig } from "vitest/config";

export default defineConfig({
  // Decorators are standard ones, which Node 20 does not run by itself.
  esbuild: { target: "es2022" },
  test: {
    include: ["src/**/*.test.ts", "tests/**/*.test.ts"],
    // Far more than anything needs: on a busy machine, too, only what never happens fails.
    testTimeout: 180_000,
    hookTimeout: 180_000,
    maxWorkers: 2,
  },
});
