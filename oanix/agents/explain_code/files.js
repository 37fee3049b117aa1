// The files of a folder: found without following links, without what .gitignore leaves out, and
// within bounds, so that a huge tree ends too.

import * as std from 'qjs:std';
import * as os from 'qjs:os';
import { rules, ignored } from './ignore.js';

export const BOUNDS = { files: 20000, entries: 200000, depth: 64, file: 1 << 20, total: 96 << 20, seconds: 40 };

// What is somebody else's code, or made by a tool, wherever it lies.
const OTHERS = new Set([
  'node_modules', 'bower_components', '.venv', 'venv', '__pycache__', '.tox', '.nox', '.mypy_cache',
  '.pytest_cache', '.ruff_cache', '.gradle', '.terraform', '.next', '.nuxt', '.eggs',
]);
const HISTORY = new Set(['.git', '.hg', '.svn', '.jj', 'CVS']);

// What wasi-libc calls O_NOFOLLOW: the engine has no name for it.
const NOFOLLOW = 0x01000000;
const HEAD = 8192;

export class Tree {
  constructor(top, path) {
    this.top = top;
    this.files = [];
    this.left = { ignored: 0, links: 0, unreadable: 0, deep: 0, others: new Map() };
    this.stopped = '';
    this.folders = 0;
    this.entries = 0;
    this.read = 0;
    this.end = Date.now() + BOUNDS.seconds * 1000;
    this.walk(path, this.above(path), 0);
    this.files.sort((a, b) => (a.path < b.path ? -1 : 1));
  }

  // Rules of the folders above count as well.
  above(path) {
    const found = [];
    const parts = path === '' ? [] : path.split('/');
    for (let depth = 0; depth < parts.length; depth++) {
      this.rulesIn(parts.slice(0, depth).join('/'), found);
    }
    return found;
  }

  rulesIn(folder, found) {
    const text = std.loadFile(`${this.full(folder)}/.gitignore`);
    if (text !== null) {
      found.push(...rules(text, folder));
    }
  }

  full(path) {
    return path === '' ? this.top : `${this.top}/${path}`;
  }

  late() {
    if (!this.stopped && Date.now() > this.end) {
      this.stopped = `after ${BOUNDS.seconds} seconds`;
    }
    return this.stopped !== '';
  }

  walk(folder, inherited, depth) {
    const [names, failed] = os.readdir(this.full(folder));
    if (failed) {
      this.left.unreadable++;
      return;
    }
    this.folders++;
    const found = [...inherited];
    if (names.includes('.gitignore')) {
      this.rulesIn(folder, found);
    }
    names.sort();
    for (const name of names) {
      if (name === '.' || name === '..') continue;
      if (this.late()) return;
      if (++this.entries > BOUNDS.entries || this.files.length >= BOUNDS.files) {
        this.stopped = `at ${this.files.length} files`;
        return;
      }
      this.look(folder === '' ? name : `${folder}/${name}`, name, found, depth);
    }
  }

  look(path, name, found, depth) {
    if (HISTORY.has(name)) return;
    const [stat, failed] = os.stat(this.full(path));
    if (failed) {
      // A link that leads nowhere, most often.
      this.left.unreadable++;
      return;
    }
    const folder = (stat.mode & os.S_IFMT) === os.S_IFDIR;
    if (ignored(found, path, folder)) {
      this.left.ignored++;
      return;
    }
    if (!folder) {
      // Whether it is a link shows when it is read: one question less for each file.
      if ((stat.mode & os.S_IFMT) === os.S_IFREG) {
        this.files.push({ path, name, bytes: stat.size });
      }
      return;
    }
    if (this.linked(path)) {
      this.left.links++;
    } else if (OTHERS.has(name)) {
      this.left.others.set(name, (this.left.others.get(name) ?? 0) + 1);
    } else if (depth >= BOUNDS.depth) {
      this.left.deep++;
    } else {
      this.walk(path, found, depth + 1);
    }
  }

  linked(path) {
    const descriptor = os.open(this.full(path), os.O_RDONLY | NOFOLLOW);
    if (descriptor >= 0) os.close(descriptor);
    return descriptor === -ELOOP;
  }

  // Give the text of a file; null for what is none, and what is too large to read.
  text(file) {
    if (file.bytes === 0) return '';
    if (file.bytes > BOUNDS.file || this.read + file.bytes > BOUNDS.total) {
      file.large = true;
      return null;
    }
    this.read += file.bytes;
    const descriptor = os.open(this.full(file.path), os.O_RDONLY | NOFOLLOW);
    if (descriptor < 0) {
      // What a link leads to is elsewhere, or is seen there.
      file.link = descriptor === -ELOOP;
      file.binary = !file.link;
      return null;
    }
    const opened = std.fdopen(descriptor, 'r');
    const text = opened.readAsString();
    opened.close();
    file.binary = text.slice(0, HEAD).includes('\0');
    return file.binary ? null : text;
  }
}

// Which number ELOOP has in WASI preview 1.
const ELOOP = 32;
