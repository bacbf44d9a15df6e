// JSON.parse keeps the last of two equal keys without a word; a file that says two things is refused instead.

/**
 * The first key that occurs twice in one object of `text`, or null. `text` is valid JSON (JSON.parse took it), so only
 * strings and brackets need to be told apart.
 */
export function duplicateKey(text: string): string | null {
  const open: (Set<string> | null)[] = []; // a set of keys per object, null per array
  for (let at = 0; at < text.length; at++) {
    const letter = text[at];
    if (letter === "{") open.push(new Set());
    else if (letter === "[") open.push(null);
    else if (letter === "}" || letter === "]") open.pop();
    else if (letter === '"') {
      const end = closingQuote(text, at);
      const keys = open.at(-1);
      if (keys && isKey(text, end + 1)) {
        const key = JSON.parse(text.slice(at, end + 1)) as string; // "\u0061" and "a" are one key
        if (keys.has(key)) return key;
        keys.add(key);
      }
      at = end;
    }
  }
  return null;
}

function closingQuote(text: string, open: number): number {
  let at = open + 1;
  while (text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
  return at;
}

function isKey(text: string, after: number): boolean {
  let at = after;
  while (" \t\n\r".includes(text[at] ?? "x")) at++;
  return text[at] === ":";
}
