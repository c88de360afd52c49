// Handlers that wait until somebody releases or cancels them, in this process.

const releases = new Set<() => void>();
let cancelledSoFar = 0;

/** Resolves when released; counts a cancellation and lets it through. */
export function waitFor(signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const release = () => {
      signal.removeEventListener("abort", cancelled);
      releases.delete(release);
      resolve("released");
    };
    const cancelled = () => {
      cancelledSoFar += 1;
      releases.delete(release);
      reject(signal.reason);
    };
    releases.add(release);
    if (signal.aborted) {
      cancelled();
    } else {
      signal.addEventListener("abort", cancelled, { once: true });
    }
  });
}

/** Releases all that wait; returns how many. */
export function releaseAll(): number {
  const waiting = [...releases];
  for (const release of waiting) {
    release();
  }
  return waiting.length;
}

/** How many were cancelled. */
export function cancelledCount(): number {
  return cancelledSoFar;
}
