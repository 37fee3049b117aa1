// Manifests: what package.json, pyproject.toml, go.mod and others say of the project.

import { folder, joined } from './resolve.js';
import { without } from './source.js';

// Nobody writes a longer one by hand.
const MANIFEST_MAX = 400000;

const READERS = [
  [/^package\.json$/, npm], [/^pyproject\.toml$/, pyproject], [/^setup\.cfg$/, setupcfg], [/^setup\.py$/, setuppy],
  [/^requirements[\w.-]*\.txt$/, requirements], [/^Pipfile$/, pipfile], [/^go\.mod$/, gomod], [/^Cargo\.toml$/, cargo],
  [/^pom\.xml$/, pom], [/^build\.gradle(?:\.kts)?$/, gradle], [/^Gemfile$/, gemfile], [/^composer\.json$/, composer],
  [/^CMakeLists\.txt$/, cmake], [/^configure\.ac$/, autoconf], [/^meson\.build$/, meson], [/^(?:GNU)?[Mm]akefile$/, make],
  [/^(?:Docker|Container)file(?:\..+)?$/, docker], [/^deno\.jsonc?$/, deno], [/^environment\.ya?ml$/, conda],
];

export function manifest(file, text) {
  const found = READERS.find(([name]) => name.test(file.name));
  if (!found || text.length > MANIFEST_MAX) return null;
  const said = { path: file.path, sort: '', name: '', version: '', license: '', description: '', dependencies: [], development: [], entries: [] };
  try {
    found[1](said, text, folder(file.path));
  } catch (error) {
    said.wrong = `it cannot be read: ${error.message}`;
  }
  for (const key of ['dependencies', 'development']) {
    said[key] = [...new Map(said[key].map((one) => [one.name, one])).values()];
  }
  return said;
}

const listed = (object) => Object.entries(object ?? {}).map(([name, wanted]) => ({ name, wanted: typeof wanted === 'string' ? wanted : '' }));
const required = (line) => {
  const [, name, rest] = /^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?\s*(.*)$/.exec(line.trim()) ?? [];
  return name ? [{ name, wanted: rest.split(';', 1)[0].trim() }] : [];
};

// JavaScript ----------------------------------------------------------------------------------

function npm(said, text, here) {
  const read = JSON.parse(text);
  Object.assign(said, {
    sort: 'npm', name: read.name ?? '', version: read.version ?? '', description: read.description ?? '',
    license: typeof read.license === 'string' ? read.license : read.license?.type ?? '',
    dependencies: [...listed(read.dependencies), ...listed(read.peerDependencies), ...listed(read.optionalDependencies)],
    development: listed(read.devDependencies), main: read.main ?? read.module ?? '',
  });
  const entry = (path, what) => {
    if (typeof path === 'string') said.entries.push({ path: joined(here, path) ?? path, what });
  };
  entry(read.main, 'main of package.json');
  entry(read.module, 'module of package.json');
  entry(read.browser, 'browser of package.json');
  // As Node does where nothing is said.
  said.implied = read.main || read.exports || read.module ? '' : joined(here, 'index.js');
  const bins = typeof read.bin === 'string' ? { [read.name ?? 'bin']: read.bin } : read.bin ?? {};
  for (const [name, path] of Object.entries(bins)) entry(path, `the command ${name}`);
  const paths = new Set();
  exported(read.exports, '.', (path, what) => {
    if (what === 'export .' && !said.entries.some((one) => one.path === joined(here, path))) entry(path, 'what it exports');
    else if (what !== 'export .') paths.add(what);
  });
  said.exports = paths.size;
  for (const [name, command] of Object.entries(read.scripts ?? {})) {
    said.entries.push({ path: '', what: `npm run ${name}`, command });
  }
}

function exported(exports, name, entry, depth = 0) {
  if (typeof exports === 'string') entry(exports, `export ${name}`);
  else if (exports && typeof exports === 'object' && depth < 4) {
    for (const [key, value] of Object.entries(exports).slice(0, 50)) {
      exported(value, key.startsWith('.') ? key : name, entry, depth + 1);
    }
  }
}

function deno(said, text) {
  const read = JSON.parse(text.replace(/^\s*\/\/.*$/gm, ''));
  Object.assign(said, { sort: 'Deno', name: read.name ?? '', version: read.version ?? '', dependencies: listed(read.imports) });
  for (const [name, command] of Object.entries(read.tasks ?? {})) said.entries.push({ path: '', what: `deno task ${name}`, command: String(command) });
}

function composer(said, text) {
  const read = JSON.parse(text);
  Object.assign(said, { sort: 'Composer', name: read.name ?? '', license: String(read.license ?? ''), description: read.description ?? '', dependencies: listed(read.require), development: listed(read['require-dev']) });
}

// Python --------------------------------------------------------------------------------------

function pyproject(said, text) {
  const read = toml(text);
  const project = read.project ?? read.tool?.poetry ?? {};
  said.sort = 'Python';
  said.name = project.name ?? '';
  said.version = project.version ?? '';
  said.description = project.description ?? '';
  said.license = typeof project.license === 'string' ? project.license : project.license?.text ?? '';
  if (Array.isArray(project.dependencies)) said.dependencies = project.dependencies.flatMap(required);
  const poetry = read.tool?.poetry;
  if (poetry?.dependencies) said.dependencies = listed(poetry.dependencies).filter(({ name }) => name !== 'python');
  const extras = { ...project['optional-dependencies'], ...read['dependency-groups'] };
  said.development = Object.values(extras).flat().filter((one) => typeof one === 'string').flatMap(required);
  for (const group of Object.values(poetry?.group ?? {})) said.development.push(...listed(group.dependencies));
  if (poetry?.['dev-dependencies']) said.development.push(...listed(poetry['dev-dependencies']));
  for (const [name, target] of Object.entries({ ...project.scripts, ...project['gui-scripts'] })) {
    said.entries.push({ path: '', what: `the command ${name}`, module: String(target) });
  }
  if (!project.name && !said.dependencies.length && read['build-system']) said.description = `built by ${read['build-system']['build-backend'] ?? 'setuptools'}`;
}

function setupcfg(said, text) {
  const read = ini(text);
  const meta = read.metadata ?? {};
  said.sort = 'Python';
  Object.assign(said, { name: meta.name ?? '', version: meta.version ?? '', license: meta.license ?? '', description: meta.description ?? '' });
  said.dependencies = rows(read.options?.install_requires).flatMap(required);
  said.development = Object.values(read['options.extras_require'] ?? {}).flatMap((one) => rows(one).flatMap(required));
  for (const line of rows(read['options.entry_points']?.console_scripts)) {
    const [name, target] = line.split('=').map((one) => one.trim());
    said.entries.push({ path: '', what: `the command ${name}`, module: target });
  }
}

function setuppy(said, text) {
  said.sort = 'Python';
  const word = (key) => new RegExp(`\\b${key}\\s*=\\s*["']([^"']+)["']`).exec(text)?.[1] ?? '';
  Object.assign(said, { name: word('name'), version: word('version'), license: word('license'), description: word('description') });
  const list = /install_requires\s*=\s*\[([^\]]*)\]/.exec(text)?.[1] ?? '';
  said.dependencies = [...list.matchAll(/["']([^"']+)["']/g)].flatMap(([, one]) => required(one));
}

function requirements(said, text) {
  said.sort = 'Python';
  const found = text.split('\n').map((line) => line.replace(/(?:^|\s)#.*$/, '').trim()).filter((line) => line && !line.startsWith('-')).flatMap(required);
  said[/dev|test/.test(said.path) ? 'development' : 'dependencies'] = found;
}

function pipfile(said, text) {
  const read = toml(text);
  Object.assign(said, { sort: 'Python', dependencies: listed(read.packages), development: listed(read['dev-packages']) });
}

function conda(said, text) {
  said.sort = 'conda';
  said.name = /^name:\s*(.+)$/m.exec(text)?.[1] ?? '';
  said.dependencies = [...text.matchAll(/^\s+-\s+([\w.-]+)\s*([=<>!~].*)?$/gm)].map(([, name, wanted]) => ({ name, wanted: wanted ?? '' }));
}

// Others --------------------------------------------------------------------------------------

function gomod(said, text) {
  said.sort = 'Go';
  said.name = /^module\s+(\S+)/m.exec(text)?.[1] ?? '';
  said.version = `go ${/^go\s+(\S+)/m.exec(text)?.[1] ?? '?'}`;
  for (const [, name, wanted, note] of text.matchAll(/^\s*(?:require\s+)?([\w.-]+\.[\w./~-]+)\s+(v\S+)(.*)$/gm)) {
    (note.includes('indirect') ? said.development : said.dependencies).push({ name, wanted });
  }
  said.indirect = true;
}

function cargo(said, text) {
  const read = toml(text);
  const wanted = (of) => Object.entries(of ?? {}).map(([name, one]) => ({ name, wanted: typeof one === 'string' ? one : one?.version ?? (one?.path ? `path ${one.path}` : '') }));
  Object.assign(said, {
    sort: 'Cargo', name: read.package?.name ?? '', version: typeof read.package?.version === 'string' ? read.package.version : '',
    license: typeof read.package?.license === 'string' ? read.package.license : '', description: typeof read.package?.description === 'string' ? read.package.description : '',
    dependencies: [...wanted(read.dependencies), ...wanted(read.workspace?.dependencies)],
    development: [...wanted(read['dev-dependencies']), ...wanted(read['build-dependencies'])],
  });
  for (const bin of read.bin ?? []) said.entries.push({ path: joined(folder(said.path), bin.path ?? `src/bin/${bin.name}.rs`), what: `the program ${bin.name}` });
}

function pom(said, text) {
  said.sort = 'Maven';
  const plain = without(without(text, '<!--', '-->'), '<parent>', '</parent>');
  const top = ['dependencies', 'build', 'profiles', 'dependencyManagement'].reduce((rest, tag) => without(rest, `<${tag}>`, `</${tag}>`), plain);
  said.name = /<artifactId>([^<]+)/.exec(top)?.[1] ?? '';
  said.version = /<version>([^<]+)/.exec(top)?.[1] ?? '';
  for (const one of plain.split('<dependency>').slice(1).map((rest) => rest.split('</dependency>', 1)[0])) {
    const word = (key) => new RegExp(`<${key}>([^<]+)`).exec(one)?.[1] ?? '';
    (word('scope') === 'test' ? said.development : said.dependencies).push({ name: `${word('groupId')}:${word('artifactId')}`, wanted: word('version') });
  }
}

function gradle(said, text) {
  said.sort = 'Gradle';
  for (const [, how, name] of text.matchAll(/^\s*(\w*(?:mplementation|api|compile|Only))\s*\(?\s*["']([^"']+)["']/gm)) {
    const [group, artifact, version] = name.split(':');
    (how.startsWith('test') ? said.development : said.dependencies).push({ name: artifact ? `${group}:${artifact}` : group, wanted: version ?? '' });
  }
}

function gemfile(said, text) {
  said.sort = 'Bundler';
  said.dependencies = [...text.matchAll(/^\s*gem\s+["']([^"']+)["'](?:\s*,\s*["']([^"']+)["'])?/gm)].map(([, name, wanted]) => ({ name, wanted: wanted ?? '' }));
}

function cmake(said, text) {
  said.sort = 'CMake';
  const plain = text.replace(/#.*$/gm, '');
  said.name = /\bproject\s*\(\s*"?([\w.-]+)/i.exec(plain)?.[1] ?? '';
  said.version = /\bproject\s*\([^)]*VERSION\s+([\d.]+)/i.exec(plain)?.[1] ?? '';
  said.dependencies = [...plain.matchAll(/\bfind_package\s*\(\s*([\w.-]+)(?:\s+([\d.]+))?/gi)].map(([, name, wanted]) => ({ name, wanted: wanted ?? '' }));
  const set = new Map([...plain.matchAll(/\bset\s*\(\s*(\w+)\s+"?([\w.+-]+)"?\s*\)/gi)].map(([, key, one]) => [key, one]));
  set.set('PROJECT_NAME', said.name);
  for (const [, sort, name] of plain.matchAll(/\badd_(executable|library)\s*\(\s*"?([^\s")]+)/gi)) {
    const whole = name.replace(/\$\{(\w+)\}/g, (all, key) => set.get(key) ?? all);
    if (!/\$|::/.test(whole)) said.entries.push({ path: '', what: `the ${sort.toLowerCase()} ${whole}` });
  }
}

function autoconf(said, text) {
  said.sort = 'Autoconf';
  const [, name, version] = /AC_INIT\s*\(\s*\[?([^\],)]+)\]?\s*(?:,\s*\[?([^\],)]+))?/.exec(text) ?? [];
  Object.assign(said, { name: name?.trim() ?? '', version: version?.trim() ?? '' });
  said.dependencies = [...text.matchAll(/(?:AC_CHECK_LIB|AC_SEARCH_LIBS|PKG_CHECK_MODULES)\s*\(\s*\[?([\w.-]+)\]?(?:\s*,\s*\[?([\w.+ >=-]+))?/g)].map(([, one]) => ({ name: one, wanted: '' }));
}

function meson(said, text) {
  said.sort = 'Meson';
  said.name = /\bproject\s*\(\s*'([^']+)'/.exec(text)?.[1] ?? '';
  said.dependencies = [...text.matchAll(/\bdependency\s*\(\s*'([^']+)'/g)].map(([, name]) => ({ name, wanted: '' }));
}

function make(said, text) {
  said.sort = 'make';
  const targets = [...text.matchAll(/^([A-Za-z][\w.-]*(?:[ \t]+[A-Za-z][\w.-]*)*)[ \t]*::?(?!=)/gm)].flatMap(([, names]) => names.split(/\s+/));
  said.targets = [...new Set(targets)].filter((name) => !/\.(?:o|a|so|d|c|h)$/.test(name));
  for (const name of said.targets.filter((one) => /^(?:all|run|test|check|build|install|serve|start|dev|lint|clean)$/.test(one))) said.entries.push({ path: '', what: `make ${name}` });
}

function docker(said, text) {
  said.sort = 'container';
  said.dependencies = [...text.matchAll(/^FROM\s+(?:--\S+\s+)?(\S+)/gim)].map(([, name]) => ({ name, wanted: '' }));
  const command = [...text.matchAll(/^(?:ENTRYPOINT|CMD)\s+(.+)$/gim)].map(([, one]) => one.trim()).pop();
  if (command) said.entries.push({ path: said.path, what: 'the container runs', command });
}

// Forms ---------------------------------------------------------------------------------------

const rows = (text) => (text ?? '').split('\n').map((line) => line.replace(/(?:^|\s)[#;].*$/, '').trim()).filter(Boolean);

function ini(text) {
  const read = {};
  let section = {};
  let key = '';
  for (const line of text.split('\n')) {
    const head = /^\[([^\]]+)\]/.exec(line);
    const pair = /^([^\s#;=:][^=:]*?)\s*[=:]\s*(.*)$/.exec(line);
    if (head) section = read[head[1].trim()] = {};
    else if (pair) section[(key = pair[1])] = pair[2];
    else if (/^\s+\S/.test(line) && key) section[key] += `\n${line}`;
  }
  return read;
}

// As much of TOML as manifests use.
export function toml(text) {
  const root = {};
  let here = root;
  const lines = text.split('\n');
  for (let index = 0; index < lines.length; index++) {
    let line = uncomment(lines[index]).trim();
    const head = /^(\[\[?)\s*(.+?)\s*\]\]?$/.exec(line);
    if (head && !/^[^"']*=/.test(line)) {
      here = enter(root, keys(head[2]), head[1] === '[[');
      continue;
    }
    const equals = line.search(/=(?=(?:[^"]*"[^"]*")*[^"]*$)/);
    if (equals < 0) continue;
    const last = Math.min(lines.length, index + 200);
    while (index + 1 < last && !complete(line.slice(equals + 1))) line += `\n${uncomment(lines[++index])}`;
    const path = keys(line.slice(0, equals));
    enter(here, path.slice(0, -1), false)[path[path.length - 1]] = value(line.slice(equals + 1).trim());
  }
  return root;
}

const uncomment = (line) => line.replace(/("(?:\\.|[^"\\])*"|'[^']*')|#.*$/g, (_, kept) => kept ?? '');
const keys = (text) => [...text.matchAll(/"([^"]*)"|'([^']*)'|([\w-]+)/g)].map(([, a, b, c]) => a ?? b ?? c);

function enter(object, path, array) {
  path.forEach((key, index) => {
    const last = index === path.length - 1;
    if (array && last) {
      object[key] = [...(Array.isArray(object[key]) ? object[key] : []), {}];
    } else if (typeof object[key] !== 'object') object[key] = {};
    object = Array.isArray(object[key]) ? object[key][object[key].length - 1] : object[key];
  });
  return object;
}

function complete(text) {
  if (/^\s*("""|''')/.test(text)) return text.trim().length > 5 && /("""|''')\s*$/.test(text);
  const plain = text.replace(/"(?:\\.|[^"\\])*"|'[^']*'/g, '');
  return (plain.match(/[[{]/g) ?? []).length <= (plain.match(/[\]}]/g) ?? []).length;
}

function value(text) {
  const quoted = /^(?:"""\n?([\s\S]*?)"""|'''\n?([\s\S]*?)'''|"((?:\\.|[^"\\])*)"|'([^']*)')/.exec(text);
  if (quoted) return quoted[1] ?? quoted[2] ?? quoted[3]?.replace(/\\(["\\])/g, '$1') ?? quoted[4];
  if (text.startsWith('[')) return pieces(text.slice(1, text.lastIndexOf(']'))).map(value);
  if (text.startsWith('{')) {
    const made = {};
    for (const one of pieces(text.slice(1, text.lastIndexOf('}')))) {
      const equals = one.indexOf('=');
      if (equals > 0) made[keys(one.slice(0, equals))[0]] = value(one.slice(equals + 1).trim());
    }
    return made;
  }
  return text === 'true' ? true : text === 'false' ? false : text;
}

function pieces(text) {
  const found = [''];
  let depth = 0;
  for (const [part] of text.matchAll(/"(?:\\.|[^"\\])*"|'[^']*'|[\s\S]/g)) {
    if ('[{'.includes(part)) depth++;
    if (']}'.includes(part)) depth--;
    if (part === ',' && depth === 0) found.push('');
    else found[found.length - 1] += part;
  }
  return found.map((one) => one.trim()).filter(Boolean);
}
