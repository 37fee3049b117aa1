// .gitignore: patterns as git reads them (gitignore(5)).

export function rules(text, folder) {
  const made = [];
  for (let line of text.split('\n')) {
    line = line.replace(/\r$/, '').replace(/(?<!\\)[ \t]+$/, '');
    if (line === '' || line.startsWith('#')) continue;
    const negated = line.startsWith('!');
    let pattern = negated ? line.slice(1) : line;
    const folders = pattern.endsWith('/');
    pattern = pattern.replace(/\/+$/, '');
    const anchored = pattern.includes('/');
    pattern = pattern.replace(/^\//, '');
    if (pattern === '') continue;
    const expression = compiled(pattern);
    if (expression === null) continue;
    made.push({ expression, negated, folders, anchored, prefix: folder === '' ? '' : `${folder}/` });
  }
  return made;
}

// The last rule that matches decides.
export function ignored(found, path, folder) {
  for (let index = found.length - 1; index >= 0; index--) {
    const rule = found[index];
    if (rule.folders && !folder) continue;
    if (!path.startsWith(rule.prefix)) continue;
    const below = path.slice(rule.prefix.length);
    const said = rule.anchored ? below : below.slice(below.lastIndexOf('/') + 1);
    if (rule.expression.test(said)) return !rule.negated;
  }
  return false;
}

function compiled(pattern) {
  let made = '';
  let index = 0;
  while (index < pattern.length) {
    const one = pattern[index];
    if (pattern.startsWith('**/', index) && (index === 0 || pattern[index - 1] === '/')) {
      made += '(?:.*/)?';
      index += 3;
      continue;
    }
    if (pattern.startsWith('/**', index) && index + 3 === pattern.length) {
      made += '/.+';
      index += 3;
      continue;
    }
    if (one === '*') {
      made += '[^/]*';
      while (pattern[index + 1] === '*') index++;
    } else if (one === '?') {
      made += '[^/]';
    } else if (one === '[') {
      const end = pattern.indexOf(']', pattern[index + 1] === ']' || pattern[index + 1] === '!' ? index + 2 : index + 1);
      if (end < 0) return null;
      const inside = pattern.slice(index + 1, end).replace(/\\/g, '\\\\').replace(/^!/, '^').replace(/\[/g, '\\[');
      made += `[${inside}]`;
      index = end;
    } else if (one === '\\' && index + 1 < pattern.length) {
      made += pattern[++index].replace(/[.*+?^${}()|[\]\\/]/, '\\$&');
    } else {
      made += one.replace(/[.*+?^${}()|[\]\\/]/, '\\$&');
    }
    index++;
  }
  try {
    return new RegExp(`^${made}$`);
  } catch {
    return null;
  }
}
