// Project: all that is known of the files: languages, entries, tests, imports, sizes.

import { functions } from './functions.js';
import { imports } from './imports.js';
import { generated, language, scripted, sort } from './languages.js';
import { manifest } from './manifests.js';
import { Resolver, folder } from './resolve.js';
import { without } from './source.js';

const TODO = /\b(?:TODO|FIXME|XXX|HACK)\b/g;
const REMARK = /#|\/\/|\/\*|^\s*\*|--|<!--|^\s*[;%]|\{#/;
const LINE_MAX = 200000;
const TESTS = [
  [/(^|\/)(test_[^/]*|[^/]*_test)\.py$/, /^[ \t]*(?:async[ \t]+)?def[ \t]+test\w*/gm],
  [/(\.|_|-)(test|spec)\.[cm]?[jt]sx?$|(^|\/)(__tests__|tests?|spec)\/.*\.[cm]?[jt]sx?$/, /^[ \t]*(?:await\s+)?(?:t\.)?(?:it|test)(?:\.\w+)*\s*\(/gm],
  [/_test\.go$/, /^func (?:Test|Benchmark|Fuzz)\w*\(/gm],
  [/\.rs$/, /#\[(?:\w+::)?test\b/g],
  [/Tests?\.(java|kt|cs)$/, /@Test\b|\[(?:Fact|Test|TestMethod)\]/g],
  [/_(spec|test)\.rb$/, /^\s*(?:it|test|specify)\b/gm],
  [/(^|\/)tests?\/.*\.(c|cc|cpp|cxx)$|(^|[/_-])tests?[_-]?[^/]*\.(c|cc|cpp|cxx)$/, /\b(?:TEST(?:_F|_P|_CASE)?|START_TEST)\s*\(|^(?:static\s+)?(?:void|int)\s+test\w*\s*\(/gm],
  [/\.bats$|(^|\/)tests?\/.*\.sh$/, /^@test\b|^(?:function\s+)?test_\w+\s*\(\)/gm],
];
const MAIN = {
  Python: [/^if[ \t]+__name__[ \t]*==[ \t]*["']__main__["']/m, 'runs as a script'],
  Go: [/^package main\b[\s\S]*^func main\(\)/m, 'a program (package main)'],
  C: [/^(?:int|void|auto)?\s*\bw?main\s*\([^;{]*\)\s*\{/m, 'a program (main)'],
  'C++': [/^(?:int|void|auto)?\s*\bw?main\s*\([^;{]*\)\s*(?:->\s*int\s*)?\{/m, 'a program (main)'],
  Java: [/\bpublic\s+static\s+void\s+main\s*\(/, 'a program (main)'],
  Kotlin: [/^fun main\(/m, 'a program (main)'],
  'C#': [/\bstatic\s+(?:async\s+)?(?:void|int|Task(?:<int>)?)\s+Main\s*\(/, 'a program (Main)'],
};
const LICENCES = [
  ['AGPL-3.0', /GNU AFFERO GENERAL PUBLIC LICENSE/i], ['LGPL', /GNU (?:LESSER|LIBRARY) GENERAL PUBLIC LICENSE/i],
  ['GPL-3.0', /GNU GENERAL PUBLIC LICENSE\s+Version 3/i], ['GPL-2.0', /GNU GENERAL PUBLIC LICENSE\s+Version 2/i],
  ['Apache-2.0', /Apache License,?\s+Version 2\.0/i], ['MPL-2.0', /Mozilla Public License,? (?:Version|v\.?) ?2\.0/i],
  ['BSL-1.0', /Boost Software License/i], ['Zlib', /This software is provided 'as-is', without any express or implied/i],
  ['Unlicense', /This is free and unencumbered software/i], ['CC0-1.0', /CC0 1\.0 Universal/i],
  ['BSD-3-Clause', /Redistribution and use in source and binary forms[\s\S]*(?:Neither the names?|The names? of) /i],
  ['BSD-2-Clause', /Redistribution and use in source and binary forms/i],
  ['ISC', /Permission to use, copy, modify, and\/or distribute this software for any/i],
  ['MIT', /Permission is hereby granted, free of charge/i], ['curl', /COPYRIGHT AND PERMISSION NOTICE/],
];

export class Project {
  constructor(tree) {
    this.tree = tree;
    this.languages = new Map();
    this.manifests = [];
    this.entries = [];
    this.functions = [];
    this.tests = { files: [], count: 0, lines: 0 };
    this.todos = { TODO: 0, FIXME: 0, XXX: 0, HACK: 0 };
    this.todoFiles = new Map();
    this.licences = [];
    this.readme = null;
    this.sources = [];
    this.wanted = [];
    this.unread = 0;
    this.binaries = 0;
    this.made = { files: 0, bytes: 0 };
    for (const file of tree.files) {
      if (tree.late()) {
        this.unread++;
        continue;
      }
      this.look(file);
    }
    tree.files = tree.files.filter(({ link }) => !link);
    this.testPaths = new Set(this.tests.files);
    this.link();
  }

  look(file) {
    file.language = language(file.name);
    const text = this.tree.text(file);
    if (text === null) {
      if (file.link) this.tree.left.links++;
      else if (file.large) this.unread++;
      else this.binaries++;
      file.language = file.binary ? '' : file.language;
      return;
    }
    file.language = file.language || scripted(text);
    if (file.language === 'C' && file.name.endsWith('.h') && /^\s*(?:class|namespace|template|public:|using)\b/m.test(text)) file.language = 'C++';
    file.lines = text === '' ? 0 : text.split('\n').length - (text.endsWith('\n') ? 1 : 0);
    this.named(file, text);
    const said = manifest(file, text);
    if (said) this.manifests.push(said);
    if (generated(file.path, text)) {
      file.generated = true;
      this.made.files++;
      this.made.bytes += file.bytes;
      return;
    }
    this.count(file);
    const kind = sort(file.language);
    if (kind === 'code' || kind === 'markup') this.source(file, text, kind);
  }

  count(file) {
    const name = file.language || 'other';
    const sum = this.languages.get(name) ?? { name, sort: sort(file.language), files: 0, lines: 0, bytes: 0 };
    sum.files++;
    sum.lines += file.lines;
    sum.bytes += file.bytes;
    this.languages.set(name, sum);
  }

  named(file, text) {
    const top = folder(file.path) === folder(this.tree.files[0].path) || !file.path.slice(this.tree.base.length).includes('/');
    if (/^(?:un)?licen[cs]e|^copying|^copyright/i.test(file.name) && !/\.(?:py|js|ts|go|rs|c|h|java|sh)$/.test(file.name)) {
      const found = LICENCES.find(([, pattern]) => pattern.test(text));
      this.licences.push({ path: file.path, licence: found?.[0] ?? 'not recognised' });
    }
    if (/^readme(?:\.|$)/i.test(file.name) && top && (!this.readme || /^readme\.(?:md|rst|txt)$|^readme$/i.test(file.name))) {
      this.readme = { path: file.path, ...paragraph(text, file.name) };
    }
  }

  source(file, text, kind) {
    this.sources.push(file);
    if (longest(text) > LINE_MAX) return;
    for (const { 0: word, index } of text.matchAll(TODO)) {
      const line = text.slice(Math.max(text.lastIndexOf('\n', index) + 1, index - 300), index);
      if (!REMARK.test(line)) continue;
      this.todos[word]++;
      this.todoFiles.set(file.path, (this.todoFiles.get(file.path) ?? 0) + 1);
    }
    for (const one of imports(text, file.language)) this.wanted.push([file, one]);
    if (kind !== 'code') {
      if (file.name === 'index.html') this.entries.push({ path: file.path, what: 'a page' });
      return;
    }
    this.test(file, text);
    this.entry(file, text);
    for (const one of file.path.endsWith('.d.ts') ? [] : functions(text, file.language)) {
      if (one.lines >= 10) this.functions.push({ path: file.path, ...one });
    }
    if (this.functions.length > 4000) {
      this.functions.sort((a, b) => b.lines - a.lines);
      this.functions.length = 200;
    }
  }

  test(file, text) {
    const found = TESTS.find(([name]) => name.test(file.path));
    const count = found ? (text.match(found[1]) ?? []).length : 0;
    const whole = found && !found[0].test('.rs');
    if (!found || (file.path.endsWith('.rs') && !/(^|\/)tests\//.test(file.path) && count === 0) || (whole && count === 0 && !/(^|\/)tests?\//.test(file.path))) return;
    this.tests.count += count;
    if (!file.path.endsWith('.rs') || /(^|\/)tests\//.test(file.path)) {
      file.test = true;
      this.tests.files.push(file.path);
      this.tests.lines += file.lines;
    }
  }

  entry(file, text) {
    if (file.test) return;
    const put = (what) => this.entries.push({ path: file.path, what });
    if (file.name === '__main__.py') return this.entries.push({ path: file.path, what: '', main: true });
    const main = MAIN[file.language];
    if (main && main[0].test(text)) return put(main[1]);
    if (/(^|\/)src\/(?:main|bin\/[^/]+)\.rs$/.test(file.path)) return put('a program (Rust)');
    if (/^#![ \t]*\//.test(text)) return put(`a script (${file.language || text.slice(2, 60).split('\n', 1)[0].trim()})`);
    return undefined;
  }

  testing(path) {
    return this.testPaths.has(path) || /(^|\/)(tests?|__tests__|spec|testing|test-data|fixtures)\//.test(path.slice(this.tree.base.length));
  }

  // Which file needs which, and what is needed from outside.
  link() {
    const crates = this.manifests.filter(({ sort: one, name }) => one === 'Cargo' && name).map((one) => ({ name: one.name, folder: folder(one.path) }));
    const goModules = this.manifests.filter(({ sort: one }) => one === 'Go').map((one) => ({ path: one.name, folder: folder(one.path) })).sort((a, b) => b.path.length - a.path.length);
    const packages = this.manifests.filter(({ sort: one, name }) => one === 'npm' && name).map((one) => ({ name: one.name, main: one.main, folder: folder(one.path) }));
    const resolver = new Resolver(this.tree.files, { crates, goModules, packages });
    const edges = new Map();
    this.early = new Set();
    this.outside = new Map();
    this.missing = [];
    for (const [file, one] of this.wanted) {
      const found = resolver.find(file.path, file.language, one);
      if (!found) {
        if (/^\./.test(one.name)) this.missing.push({ from: file.path, name: one.name });
        continue;
      }
      // What Go imports is a folder.
      const packaged = (path) => (file.language === 'Go' ? `${folder(path)}/` : path);
      const from = packaged(file.path);
      for (const to of (found.inside ?? []).map(packaged)) {
        if (to === from) continue;
        edges.set(`${from}\0${to}`, [from, to]);
        if (!one.late) this.early.add(`${from}\0${to}`);
      }
      if (found.outside) {
        const key = `${found.standard ? 's' : 'x'} ${found.outside}`;
        const sum = this.outside.get(key) ?? { name: found.outside, standard: Boolean(found.standard), files: new Set() };
        sum.files.add(file.path);
        this.outside.set(key, sum);
      }
    }
    this.edges = [...edges.values()];
    for (const entry of this.entries.filter(({ main }) => main)) {
      const names = [...resolver.modules].filter(([, path]) => path === entry.path).map(([name]) => name);
      const name = names.sort((a, b) => a.length - b.length)[0]?.replace(/\.?__main__$/, '');
      entry.what = `python3 -m ${name || folder(entry.path) || '.'}`;
    }
    for (const entry of this.manifests.flatMap(({ path, entries }) => entries.map((one) => ({ from: path, ...one })))) {
      if (entry.module) {
        const [module] = entry.module.split(':');
        entry.path = resolver.modules.get(module) ?? '';
      }
      this.entries.push(entry);
    }
    // What a build makes need not be there.
    const there = new Set(this.tree.files.map(({ path }) => path));
    for (const { path, implied } of this.manifests) {
      if (implied && there.has(implied)) this.entries.push({ from: path, path: implied, what: 'main of package.json, as nothing is said' });
    }
    for (const entry of this.entries) {
      if (entry.from && entry.path && !there.has(entry.path) && !resolver.scriptAt(entry.path)) entry.what += ' (which is not there)';
    }
  }
}

function longest(text) {
  let most = 0;
  let from = 0;
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', from)) {
    most = Math.max(most, at - from);
    from = at + 1;
  }
  return Math.max(most, text.length - from);
}

// The first paragraph that says something: no title, no badge, no markup.
function paragraph(text, name) {
  let title = '';
  const plain = without(text.slice(0, 40000).replace(/\r/g, ''), '<!--', '-->').replace(/^---\n[\s\S]*?\n---\n/, '');
  for (const whole of plain.split(/\n[ \t]*\n/)) {
    const block = whole.slice(0, 3000);
    const kept = [];
    let fenced = false;
    const lines = block.split('\n');
    for (let index = 0; index < lines.length; index++) {
      const line = lines[index];
      const next = lines[index + 1] ?? '';
      if (/^\s*(```|~~~)/.test(line)) fenced = !fenced;
      const heading = /^#{1,6}\s+(.+?)\s*#*$/.exec(line)?.[1] ?? (/^(={3,}|-{3,}|~{3,}|\*{3,})\s*$/.test(next) && line.trim() ? line.trim() : '');
      if (heading) title = title || stripped(heading);
      else if (!fenced && !/^\s*(```|~~~)/.test(line) && !/^[=\-~^*#"+]{3,}\s*$/.test(line) && !/^\s*(?:\.\. |:\w+:|\||>\s*\[!)/.test(line)) kept.push(line);
    }
    const said = stripped(kept.map((line) => line.replace(/^\s*>\s?/, '')).join(' '));
    if (said.length > 20 && /[a-z]{3}/i.test(said) && !/^(?:[-*+]|\d+\.)\s/.test(kept.join(' ').trim())) return { title, text: said.slice(0, 1500) };
    if (/^readme(?:\.txt)?$/i.test(name) && !title && said) title = said.slice(0, 120);
  }
  return { title, text: '' };
}

function stripped(text) {
  return text.replace(/<[^>]+>/g, ' ').replace(/\[?!\[[^\]]*\](?:\([^)]*\)|\[[^\]]*\])\]?(?:\([^)]*\))?/g, ' ')
    .replace(/\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])?/g, '$1').replace(/`([^`\n]+?)\s*<[^>]+>`__?/g, '$1').replace(/\|\w[^|]*\|/g, ' ')
    .replace(/(\*\*|__)(.+?)\1/g, '$2').replace(/\s+/g, ' ').trim();
}
