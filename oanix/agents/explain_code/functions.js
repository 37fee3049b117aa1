// Functions: where they begin and how long they are, by indentation or by braces.

import { bare, braces } from './source.js';

const HEADS = {
  Go: /^func\s+(?:\([^)]*\)\s*)?(\w+)\s*(?:\[[^\]]*\])?\(/gm,
  Rust: /^[ \t]*(?:pub(?:\([^)]*\))?\s+)?(?:default\s+)?(?:const\s+)?(?:async\s+)?(?:unsafe\s+)?(?:extern\s+""\s+)?fn\s+(\w+)/gm,
  JavaScript: /(?:^|[\s;{}(])(?:async\s+)?function\s*\*?\s*(\w+)\s*\(|^[ \t]*(?:export\s+)?(?:const|let|var)\s+(\w+)\s*=\s*(?:async\s*)?(?:function\b|\([^()]*\)\s*(?::[^={]+)?=>|\w+\s*=>)|^[ \t]+(?:(?:public|private|protected|static|async|override|get|set|readonly)\s+)*[*#]?(\w+)\s*(?:<[^>(]*>)?\([^()]*(?:\([^()]*\)[^()]*)*\)\s*(?::\s*[^{;=]+)?\{/gm,
  Java: /^[ \t]+(?:(?:public|private|protected|static|final|abstract|synchronized|native|override|async|virtual|internal|open|suspend|inline|operator|fun)\s+)*(?:<[^>]+>\s+)?[\w.<>,[\]?]+\s+(\w+)\s*\([^;{}]*\)\s*(?:throws [\w., ]+)?\{/gm,
  Kotlin: /^[ \t]*(?:\w+\s+)*fun\s+(?:<[^>]+>\s*)?(?:[\w.]+\.)?(\w+)\s*\(/gm,
  PHP: /^[ \t]*(?:(?:public|private|protected|static|final|abstract)\s+)*function\s+&?(\w+)\s*\(/gm,
  Swift: /^[ \t]*(?:\w+\s+)*func\s+(\w+)/gm,
  C: /^(?!\s*(?:else|return|typedef|case|goto)\b)[A-Za-z_][\w\s*,&:<>~()""[\]]*?\b([A-Za-z_~]\w*)\s*\([^;{}]*\)\s*(?:const\s*|noexcept\s*|override\s*|->\s*[\w:<>&*\s]+|__attribute__\s*\(\([^)]*\)\)\s*)*(?::[^{};]*)?\{/gm,
};
const SAME = { TypeScript: 'JavaScript', Vue: 'JavaScript', Svelte: 'JavaScript', 'C++': 'C', CUDA: 'C', 'Objective-C': 'C', 'C#': 'Java', Scala: 'Java', Dart: 'Java', Groovy: 'Java' };
const WORDS = new Set(['if', 'for', 'while', 'switch', 'catch', 'return', 'function', 'else', 'do', 'with', 'sizeof', 'new', 'typeof', 'await', 'defined', 'super', 'constructor_']);

// Give [{name, line, lines}]; what cannot be told apart is left out.
export function functions(text, language) {
  if (language === 'Python') return indented(text);
  const head = HEADS[SAME[language] ?? language];
  if (!head || !braces(language)) return [];
  return braced(language === 'C' || language === 'C++' ? unpreprocessed(bare(text, language)) : bare(text, language), head);
}

// Of `#if … #else … #endif` one side is enough, else braces open twice.
function unpreprocessed(text) {
  const out = [];
  const depth = [];
  for (const line of text.split('\n')) {
    const said = /^[ \t]*#[ \t]*(if|ifdef|ifndef|elif|else|endif)\b/.exec(line)?.[1];
    if (said?.startsWith('if')) depth.push(false);
    else if (said === 'else' || said === 'elif') depth[depth.length - 1] = true;
    else if (said === 'endif') depth.pop();
    out.push(said || depth.includes(true) || /^[ \t]*#/.test(line) ? '' : line);
  }
  return out.join('\n');
}

function braced(text, head) {
  const { pairs, opens } = matched(text);
  const starts = lineStarts(text);
  const found = [];
  let last = -1;
  for (const match of text.matchAll(head)) {
    const name = match[1] ?? match[2] ?? match[3];
    if (!name || WORDS.has(name)) continue;
    const from = match.index + match[0].length - (match[0].endsWith('{') ? 1 : 0);
    const after = match[0].endsWith('(') ? closed(text, from) : from;
    const open = opens[lower(opens, after)];
    if (open === undefined || open === last) continue;
    // A declaration ends before any brace.
    if (!match[0].endsWith('{') && (open - after > 2000 || text.slice(after, open).includes(';'))) continue;
    const close = pairs.get(open);
    if (close === undefined) continue;
    last = open;
    const first = lineOf(starts, match.index + match[0].search(/\S/));
    found.push({ name, line: first, lines: lineOf(starts, close) - first + 1 });
  }
  return found;
}

// Give where the bracket closes that was opened just before.
function closed(text, from) {
  let depth = 1;
  for (let at = from; at < Math.min(text.length, from + 5000); at++) {
    if (text[at] === '(') depth++;
    else if (text[at] === ')' && --depth === 0) return at + 1;
  }
  return from;
}

function matched(text) {
  const pairs = new Map();
  const opens = [];
  const stack = [];
  for (const { 0: one, index } of text.matchAll(/[{}]/g)) {
    if (one === '{') {
      opens.push(index);
      stack.push(index);
    } else if (stack.length) pairs.set(stack.pop(), index);
  }
  return { pairs, opens };
}

function lower(sorted, value) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

function lineStarts(text) {
  const starts = [0];
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) starts.push(at + 1);
  return starts;
}

const lineOf = (starts, position) => lower(starts, position + 1);

function indented(text) {
  const found = [];
  const open = [];
  let quote = '';
  let depth = 0;
  let last = 0;
  const end = (indent) => {
    while (open.length && open[open.length - 1].indent >= indent) {
      const { name, line } = open.pop();
      found.push({ name, line, lines: last - line + 1 });
    }
  };
  text.split('\n').forEach((line, index) => {
    const inside = quote !== '' || depth > 0;
    if (!inside && /^[ \t]*[^\s#]/.test(line)) {
      const indent = line.search(/\S/);
      end(indent);
      const def = /^[ \t]*(?:async[ \t]+)?def[ \t]+(\w+)/.exec(line);
      if (def) open.push({ name: def[1], line: index + 1, indent });
    }
    if (line.trim()) last = index + 1;
    [quote, depth] = scan(line, quote, depth);
  });
  end(0);
  return found;
}

// Follow quotes of three and brackets through a line of Python.
function scan(line, quote, depth) {
  if (quote === '' && !/["'()[\]{}]/.test(line)) return [quote, depth];
  const parts = /"""|'''|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|#.*|[([{]|[)\]}]|\\./g;
  for (const { 0: part } of line.matchAll(quote ? (quote === '"""' ? /"""/g : /'''/g) : parts)) {
    if (quote) {
      return scan(line.slice(line.indexOf(quote) + 3), '', depth);
    }
    if (part === '"""' || part === "'''") {
      const rest = line.slice(line.indexOf(part) + 3);
      const close = rest.indexOf(part);
      if (close < 0) return [part, depth];
      return scan(rest.slice(close + 3), '', depth);
    }
    if ('([{'.includes(part)) depth++;
    else if (')]}'.includes(part)) depth = Math.max(0, depth - 1);
  }
  return [quote, depth];
}
