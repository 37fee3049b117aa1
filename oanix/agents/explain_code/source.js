// Source: text without its comments, for languages that write them alike.

const BRACES = new Set(['JavaScript', 'TypeScript', 'Go', 'C', 'C++', 'Java', 'Kotlin', 'Scala', 'C#', 'Swift',
  'Objective-C', 'PHP', 'Dart', 'CUDA', 'Groovy', 'Zig', 'Solidity', 'D', 'Rust', 'Vue', 'Svelte']);

const PARTS = {
  usual: /\/\*[\s\S]*?(?:\*\/|$)|\/\/[^\n]*|"(?:\\[\s\S]|[^"\\\n])*"|'(?:\\[\s\S]|[^'\\\n])*'/g,
  script: /\/\*[\s\S]*?(?:\*\/|$)|\/\/[^\n]*|"(?:\\[\s\S]|[^"\\\n])*"|'(?:\\[\s\S]|[^'\\\n])*'|`(?:\\[\s\S]|[^`\\])*`|(?<=(?:^|[=(,:[!&|?{};\n]|=>|\breturn)[ \t]*)\/(?![/*])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/[a-z]*/g,
  go: /\/\*[\s\S]*?(?:\*\/|$)|\/\/[^\n]*|"(?:\\[\s\S]|[^"\\\n])*"|'(?:\\.|[^'\\\n])+'|`[^`]*`/g,
  rust: /\/\*[\s\S]*?(?:\*\/|$)|\/\/[^\n]*|b?r(#*)"[\s\S]*?"\1|b?"(?:\\[\s\S]|[^"\\])*"|b?'(?:\\[^'\n]+|[^'\\\n])'/g,
};

export const braces = (language) => BRACES.has(language);

// More raw strings than any source has would be looked for again and again.
const RAW_MAX = 500;

function parts(language, text) {
  if (language === 'Rust' && (text.match(/\br#*"/g) ?? []).length > RAW_MAX) return PARTS.usual;
  if (language === 'Go') return PARTS.go;
  if (language === 'Rust') return PARTS.rust;
  return ['JavaScript', 'TypeScript', 'Vue', 'Svelte'].includes(language) ? PARTS.script : PARTS.usual;
}

// Take away all that stands between two marks; what is not closed goes to the end.
export function without(text, open, close) {
  const kept = [];
  let from = 0;
  for (;;) {
    const begin = text.indexOf(open, from);
    if (begin < 0) return kept.join('') + text.slice(from);
    kept.push(text.slice(from, begin));
    const end = text.indexOf(close, begin + open.length);
    if (end < 0) return kept.join('');
    from = end + close.length;
  }
}

const lines = (text) => text.replace(/[^\n]+/g, '');

// Take away comments, and put nothing in their place; strings stay.
export function uncommented(text, language) {
  return text.replace(parts(language, text), (part) => (part[0] === '/' && (part[1] === '/' || part[1] === '*') ? ` ${lines(part)}` : part));
}

// Take away comments and what strings hold; lines stay where they are.
export function bare(text, language) {
  return text.replace(parts(language, text), (part) => {
    const held = part.includes('\n') ? lines(part) : '';
    return part[0] === '/' && (part[1] === '/' || part[1] === '*') ? ` ${held}` : `""${held}`;
  });
}
