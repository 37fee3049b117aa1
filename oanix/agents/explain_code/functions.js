// Functions: where they begin and how long they are, by indentation or by braces.
//
// Each text is gone through once: a file that somebody made to be slow is as fast as any other.

import { bare, braces } from './source.js';

const SCRIPTS = new Set(['JavaScript', 'TypeScript', 'Vue', 'Svelte']);
const HEAD_MAX = 1000;

// Where a word says that a function begins, its name follows that.
const NAMED = {
  Go: /\bfunc\s+(?:\([^()]*\)\s*)?(\w+)/, Rust: /\bfn\s+(\w+)/, Swift: /\bfunc\s+(\w+)/, Kotlin: /\bfun\s+(?:<[^<>]*>\s*)?(?:[\w.]+\.)?(\w+)/,
  PHP: /\bfunction\s+&?(\w+)/, Zig: /\bfn\s+(\w+)/, Solidity: /\bfunction\s+(\w+)/,
};
const NO_NAME = new Set(['if', 'for', 'while', 'switch', 'catch', 'return', 'function', 'else', 'do', 'with', 'sizeof', 'new', 'typeof', 'await', 'defined',
  'super', 'foreach', 'using', 'lock', 'fixed', 'synchronized', 'when', 'elif', 'case', 'throw', 'assert', 'static_assert', 'until', 'unless', 'in', 'of', 'and', 'or', 'not']);
// What may stand between the bracket that closes the parameters and the brace.
const AFTER = /^\s*(?:(?:const|noexcept|override|final|volatile|mutable|async|throws\s+[\w.,\s]+|where\s[^(){}]*|&&?)\s*|->\s*[\w:<>,&*\s]+|:\s*[\w.$<>,[\]|&\s"'?]+|\bWITH_\w+\s*)*$/;
const NOT_PARAMETERS = new Set(['__attribute__', 'noexcept', 'alignas', 'decltype', 'requires', '__declspec', 'throw']);

// Give [{name, line, lines}]; what cannot be told apart is left out.
export function functions(text, language) {
  if (language === 'Python') return indented(text);
  if (!braces(language)) return [];
  const plain = bare(text, language);
  return braced(['C', 'C++', 'CUDA', 'Objective-C'].includes(language) ? unpreprocessed(plain) : plain, language);
}

// Of `#if … #else … #endif` one side is enough, else braces open twice.
function unpreprocessed(text) {
  const out = [];
  const depth = [];
  let held = 0;
  let goes = false;
  for (const line of text.split('\n')) {
    const said = /^[ \t]*#[ \t]*(if|ifdef|ifndef|elif|else|endif)\b/.exec(line)?.[1];
    if (said?.startsWith('if')) depth.push(false);
    else if (said === 'else' || said === 'elif') {
      if (depth.length && !depth[depth.length - 1]) {
        depth[depth.length - 1] = true;
        held++;
      }
    } else if (said === 'endif' && depth.pop()) held--;
    const directive = goes || /^[ \t]*#/.test(line);
    goes = directive && line.endsWith('\\');
    out.push(said || held || directive ? '' : line);
  }
  return out.join('\n');
}

function braced(text, language) {
  const starts = lineStarts(text);
  const found = [];
  const open = [];
  const nests = SCRIPTS.has(language) || language === 'Kotlin' || language === 'Rust';
  let within = 0;
  // A head begins after what ended before it; within round brackets that is another matter.
  const edges = [0];
  for (const { 0: one, index } of text.matchAll(/[(){};]/g)) {
    const top = edges.length - 1;
    if (one === '(') edges.push(index + 1);
    else if (one === ')') {
      if (top > 0 && !(open.length && open[open.length - 1].level === top)) edges.pop();
    } else if (one === ';') edges[top] = index + 1;
    else if (one === '{') {
      const from = Math.max(edges[top], index - HEAD_MAX);
      const head = within && !nests ? '' : text.slice(from, index);
      const name = headed(head, language);
      open.push({ name, begin: name ? from + head.lastIndexOf(name, head.lastIndexOf('(')) : index, level: top + 1 });
      edges.push(index + 1);
      within += name ? 1 : 0;
    } else if (open.length) {
      const { name, begin, level } = open.pop();
      within -= name ? 1 : 0;
      edges.length = level;
      edges[level - 1] = index + 1;
      if (name) {
        const line = lineOf(starts, begin);
        found.push({ name, line, lines: lineOf(starts, index) - line + 1 });
      }
    }
  }
  return found.sort((a, b) => a.line - b.line);
}

// Give the name of the function whose body comes after this text, or nothing.
function headed(head, language) {
  const pattern = NAMED[language];
  if (pattern) return pattern.exec(head)?.[1] ?? '';
  if (SCRIPTS.has(language)) {
    const named = /\bfunction\s*\*?\s*([\w$]+)\s*[(<]/.exec(head);
    if (named) return named[1];
    const arrow = /=>\s*$/.test(head);
    const assigned = arrow || /\bfunction\s*\*?\s*\(/.test(head);
    if (assigned) return /(?:^|[\s,({])(?:const\s+|let\s+|var\s+)?([\w$]+)\s*(?::[^=(]{0,100})?[:=]\s*(?:async\s*)?(?:function\b|\(|[\w$]+\s*=>)/.exec(head)?.[1] ?? '';
    return called(head, language);
  }
  return called(head, language);
}

// `type name(parameters) … {`: the name before the brackets that close last.
function called(whole, language) {
  // What a constructor of C++ begins its members with comes after its parameters.
  const colon = language === 'C++' ? /\)\s*(?:noexcept\s*)?:(?!:)/.exec(whole) : null;
  let head = colon ? whole.slice(0, colon.index + 1) : whole;
  for (let tries = 0; tries < 4; tries++) {
    const close = head.lastIndexOf(')');
    if (close < 0 || head.length - close > 300 || !AFTER.test(head.slice(close + 1))) return '';
    const first = opening(head, close);
    if (first < 0) return '';
    const before = head.slice(Math.max(0, first - 200), first);
    const name = /([A-Za-z_$~#][\w$]*)\s*(?:<[^<>]*>)?\s*$/.exec(before)?.[1] ?? '';
    if (NOT_PARAMETERS.has(name)) {
      head = head.slice(0, first - name.length).trimEnd();
      continue;
    }
    // A macro such as TEST(…) is no function of this name.
    if (NO_NAME.has(name) || (language !== 'Java' && /^[A-Z][A-Z0-9_]+$/.test(name)) || /\b(?:new|return|typedef|case|goto|else|=)\s*[\w$]*\s*$/.test(before) || /=\s*$/.test(before.slice(0, before.length - name.length))) return '';
    return name;
  }
  return '';
}

function opening(text, close) {
  let depth = 0;
  for (let at = close; at >= 0; at--) {
    if (text[at] === ')') depth++;
    else if (text[at] === '(' && --depth === 0) return at;
  }
  return -1;
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
    // A remark after the last statement belongs to what comes next.
    if (line.trim() && (inside || !/^\s*#/.test(line))) last = index + 1;
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
