// explain_code: looks at a folder of the workspace and reports what it is: languages, entry points,
// imports, sizes, tests. Markdown goes to the standard output, JSON into /task/result.json.

import * as std from 'qjs:std';
import * as os from 'qjs:os';
import { Tree } from './files.js';
import { graph } from './graph.js';
import { Project } from './project.js';
import { gathered, layout, markdown } from './report.js';
import { joined } from './resolve.js';

const TOP = '/workspace';
const RESULT_MAX = 1000000;

class Refused extends Error {}

function main() {
  const order = JSON.parse(std.loadFile('/task/spec.json'));
  const { path = '.', depth = 2 } = order.input ?? {};
  const base = cleaned(path);
  const tree = new Tree(TOP, base);
  tree.base = base === '' ? '' : `${base}/`;
  const name = base.split('/').pop() || 'The workspace';
  if (!tree.files.length) {
    throw new Refused(`there are no files in ${base || 'the workspace'} that could be read`);
  }
  const project = new Project(tree);
  const drawn = graph(project, base, depth);
  const found = gathered(project, tree, drawn, base || '.');
  answer(found);
  std.out.puts(markdown(found, drawn, layout(tree.files, base, depth), name));
  std.out.flush();
}

function cleaned(path) {
  const inside = path === TOP ? '.' : path.startsWith(`${TOP}/`) ? path.slice(TOP.length + 1) : path;
  const base = inside.startsWith('/') ? null : joined('', inside);
  if (base === null) {
    throw new Refused(`"${path}" is not in the workspace`);
  }
  const [stat, failed] = os.stat(base === '' ? TOP : `${TOP}/${base}`);
  if (failed || (stat.mode & os.S_IFMT) !== os.S_IFDIR) {
    throw new Refused(`"${path}" is ${failed ? 'not there' : 'no folder'}`);
  }
  return base;
}

// A result has a bound, so what is longest in it is shortened first.
function answer(found) {
  const { dependencies } = found;
  let said = JSON.stringify(found);
  while (size(said) > RESULT_MAX) {
    const lists = [[dependencies, 'files'], [dependencies, 'edges'], [dependencies, 'outside'], [found, 'entries'], [found, 'manifests'], [found.tests, 'paths']];
    const [owner, key] = lists.sort((a, b) => b[0][b[1]].length - a[0][a[1]].length)[0];
    if (!owner[key].length) break;
    owner[key] = owner[key].slice(0, owner[key].length >> 1);
    found.shortened = [...new Set([...(found.shortened ?? []), key])];
    said = JSON.stringify(found);
  }
  const file = std.open('/task/result.json', 'w');
  file.puts(said);
  file.close();
}

const size = (text) => unescape(encodeURIComponent(text)).length;

try {
  main();
} catch (error) {
  const said = error instanceof Refused ? error.message : `${error}\n${error.stack}`;
  std.err.puts(`explain_code: ${said}\n`);
  std.err.flush();
  std.exit(error instanceof Refused ? 1 : 70);
}
