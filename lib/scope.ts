// Lifetimes by nesting: what a scope's function creates and does not return is disposed when it ends.
import { ForetokenError } from "./errors.js";

/** What a frame does with its tensors at the end: a scope disposes them, an owner keeps them unless it fails. */
class Frame extends Set<Disposable> {
  constructor(readonly owner: boolean) {
    super();
  }
}

const scopes: Frame[] = [];

/** Puts a freshly made object under the innermost scope, if there is one. */
export function track(made: Disposable): void {
  scopes.at(-1)?.add(made);
}

/** Takes an object that was disposed by hand out of whatever scope holds it. */
export function untrack(disposed: Disposable): void {
  for (let depth = scopes.length - 1; depth >= 0; depth--) if (scopes[depth]?.delete(disposed)) return;
}

/** Lets `value` outlive the innermost scope: it moves to the one around it, or is yours to dispose. */
export function keep<T extends Disposable>(value: T): T {
  if (scopes.at(-1)?.delete(value)) scopes.at(-2)?.add(value);
  return value;
}

// Everything of `owned` that can be reached from `value` through arrays, maps, sets and properties.
function reachable(value: unknown, owned: ReadonlySet<object>): Set<Disposable> {
  const found = new Set<Disposable>();
  const seen = new Set<object>();
  const visit = (item: unknown): void => {
    if (typeof item !== "object" || item === null || seen.has(item) || ArrayBuffer.isView(item)) return;
    seen.add(item);
    if (owned.has(item)) found.add(item as Disposable);
    else if (item instanceof Map) for (const entry of item.values()) visit(entry);
    else if (item instanceof Set) for (const entry of item) visit(entry);
    else for (const entry of Object.values(item)) visit(entry);
  };
  visit(value);
  return found;
}

function isPromiseLike(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && "then" in value && typeof value.then === "function";
}

/**
 * Calls `fn` and disposes every tensor made inside it, but for those in the value it returns (a tensor, or tensors in
 * arrays, maps, sets and objects) and those given to {@link keep}; these pass to the scope around it.
 *
 * `fn` is synchronous, since ops only enqueue: one that returns a promise throws ASYNC_SCOPE.
 *
 * @example
 * const loss = scope(() => meanSquare(subtract(prediction, target)));
 */
export function scope<T>(fn: () => T): T {
  const owned = new Frame(false);
  scopes.push(owned);
  let kept = new Set<Disposable>();
  try {
    const result = fn();
    if (isPromiseLike(result)) {
      result.then(undefined, () => {}); // its tensors are about to go: the failure that matters is ours
      throw new ForetokenError("ASYNC_SCOPE", "the function returned a promise", {
        op: "scope",
        remedy: "Await outside of the scope: ops only enqueue, nothing inside needs await.",
      });
    }
    kept = reachable(result, owned);
    return result;
  } finally {
    scopes.pop();
    for (const made of owned) {
      if (kept.has(made)) track(made);
      else made[Symbol.dispose]();
    }
  }
}

/**
 * Calls `make` and takes everything it created out of every scope: whoever calls this owns it. When `make` throws,
 * everything it created is disposed. For constructors of things that outlive scopes.
 */
export function owning<T>(make: () => T): T {
  const owned = new Frame(true);
  scopes.push(owned);
  let done = false;
  try {
    const result = make();
    done = true;
    return result;
  } finally {
    scopes.pop();
    const outer = scopes.at(-1);
    for (const made of owned) {
      if (!done) made[Symbol.dispose]();
      else if (outer?.owner) outer.add(made); // an owner within an owner: all or nothing together
    }
  }
}

/** Takes `value` out of every scope: whoever calls this owns it and disposes it. */
export function detach<T extends Disposable>(value: T): T {
  untrack(value);
  return value;
}
