// scaffold: writes a small project from a template into the workspace.
//
// It reads its order in /task/spec.json and its templates beside itself, and leaves the list of the
// files that it made in /task/result.json. It never writes over a file, unless it was told to.

import * as std from 'qjs:std';
import * as os from 'qjs:os';
import { fill, words } from './fill.js';

const HERE = scriptArgs[0].slice(0, scriptArgs[0].lastIndexOf('/'));
const TOP = '/workspace';
const NEXT = {
  landing: 'open index.html in a browser',
  dashboard: 'python3 -m http.server --bind 127.0.0.1 8000, and open http://127.0.0.1:8000',
  api: 'python3 app.py starts it, python3 -m unittest tests it',
};

class Refused extends Error {}

function main() {
  const input = JSON.parse(load('/task/spec.json')).input ?? {};
  const templates = JSON.parse(load(`${HERE}/templates/templates.json`));
  if (input.list) {
    return list(templates);
  }
  const template = templates.find(({ name }) => name === input.template);
  if (!template) {
    const known = templates.map(({ name }) => name).join(', ');
    throw new Refused(`say which template: ${known} (oanix agent run scaffold --list)`);
  }
  const directory = clean(input.name ?? '.');
  const values = words(input, template, directory);
  const files = template.files.map((file) => ({
    path: join(directory, target(file)),
    text: fill(load(`${HERE}/templates/${template.name}/${file}`), values),
  }));
  if (!input.force) {
    refuse(files);
  }
  const result = {
    template: template.name,
    directory,
    dry_run: Boolean(input['dry-run']),
    files: files.map(({ path, text }) => ({ path, bytes: size(text) })),
    next: NEXT[template.name],
  };
  if (!result.dry_run) {
    write(files, Boolean(input.force));
  }
  answer(result);
  for (const { path, bytes } of result.files) {
    print(`${result.dry_run ? 'would make' : 'made'} ${path} (${bytes} bytes)`);
  }
  print(`next${directory === '.' ? '' : `, in ${directory}`}: ${result.next}`);
}

function list(templates) {
  answer({ templates: templates.map(({ name, description, files }) => ({ name, description, files: files.map(target) })) });
  for (const { name, description, files } of templates) {
    print(`${name.padEnd(10)} ${description}\n${' '.repeat(11)}${files.map(target).join(' ')}`);
  }
}

// Names ---------------------------------------------------------------------------------------

function clean(name) {
  const inside = name === TOP ? '.' : name.startsWith(`${TOP}/`) ? name.slice(TOP.length + 1) : name;
  const parts = inside.split('/').filter((part) => part !== '' && part !== '.');
  if (name === '' || inside.startsWith('/') || parts.includes('..')) {
    throw new Refused(`"${name}" is no folder of the workspace; write a name such as my-site, or . for the workspace itself`);
  }
  if (parts.some((part) => size(part) > 255 || /[\x00-\x1f\x7f]/.test(part))) {
    throw new Refused('the name of a folder has at most 255 bytes, and no control characters');
  }
  return parts.join('/') || '.';
}

function target(file) {
  const name = file.replace(/\.tmpl$/, '');
  return name === 'gitignore' ? '.gitignore' : name;
}

function join(directory, file) {
  return directory === '.' ? file : `${directory}/${file}`;
}

// Files ---------------------------------------------------------------------------------------

function load(path) {
  const text = std.loadFile(path);
  if (text === null) {
    throw new Refused(`${path} cannot be read`);
  }
  return text;
}

function refuse(files) {
  const there = files.map(({ path }) => path).filter((path) => os.stat(`${TOP}/${path}`)[1] === 0);
  if (there.length) {
    throw new Refused(`these files are there already, and nothing was written: ${there.join(', ')}; choose another name, or write over them with --force`);
  }
}

function write(files, force) {
  const made = [];
  try {
    for (const { path, text } of files) {
      parents(path, made);
      put(path, text, force, made);
    }
  } catch (error) {
    // Half a project is worth nothing; what was there before stays.
    for (const path of made.reverse()) {
      os.remove(path);
    }
    throw error;
  }
}

function parents(path, made) {
  const names = path.split('/').slice(0, -1);
  let here = TOP;
  for (const name of names) {
    here += `/${name}`;
    const failed = os.mkdir(here, 0o755);
    if (failed === 0) {
      made.push(here);
      continue;
    }
    const [found, wrong] = os.stat(here);
    if (wrong || (found.mode & os.S_IFMT) !== os.S_IFDIR) {
      const said = wrong ? std.strerror(-failed) : 'there is a file of this name';
      throw new Refused(`the folder ${here} cannot be made: ${said}`);
    }
  }
}

function put(path, text, force, made) {
  const full = `${TOP}/${path}`;
  const fresh = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644);
  const file = fresh < 0 && force ? os.open(full, os.O_WRONLY | os.O_TRUNC, 0o644) : fresh;
  if (file < 0) {
    throw new Refused(`${path} cannot be written: ${std.strerror(-file)}`);
  }
  if (fresh >= 0) {
    made.push(full);
  }
  const bytes = encoded(text);
  let done = 0;
  while (done < bytes.length) {
    const taken = os.write(file, bytes.buffer, done, bytes.length - done);
    if (taken < 0) {
      os.close(file);
      throw new Refused(`${path} cannot be written: ${std.strerror(-taken)}`);
    }
    done += taken;
  }
  const closed = os.close(file);
  if (closed < 0) {
    throw new Refused(`${path} cannot be written: ${std.strerror(-closed)}`);
  }
}

// UTF-8: this engine has no TextEncoder.
function encoded(text) {
  const escaped = unescape(encodeURIComponent(text));
  const bytes = new Uint8Array(escaped.length);
  for (let index = 0; index < escaped.length; index++) {
    bytes[index] = escaped.charCodeAt(index);
  }
  return bytes;
}

function size(text) {
  return unescape(encodeURIComponent(text)).length;
}

function answer(result) {
  const file = std.open('/task/result.json', 'w');
  file.puts(JSON.stringify(result));
  file.close();
}

try {
  main();
} catch (error) {
  const said = error instanceof Refused ? error.message : `${error}\n${error.stack}`;
  std.err.puts(`scaffold: ${said}\n`);
  std.err.flush();
  std.exit(error instanceof Refused ? 1 : 70);
}
