// Languages: by the ending of a name, by a whole name, or by what a script begins with.

const code = (name, ...endings) => [name, 'code', endings];
const markup = (name, ...endings) => [name, 'markup', endings];
const data = (name, ...endings) => [name, 'data', endings];
const text = (name, ...endings) => [name, 'text', endings];

const TABLE = [
  code('Python', 'py', 'pyi', 'pyw'), code('JavaScript', 'js', 'mjs', 'cjs', 'jsx'),
  code('TypeScript', 'ts', 'mts', 'cts', 'tsx'), code('Go', 'go'), code('Rust', 'rs'),
  code('C', 'c', 'h'), code('C++', 'cc', 'cpp', 'cxx', 'c++', 'hh', 'hpp', 'hxx', 'ipp', 'tpp'),
  code('Java', 'java'), code('Kotlin', 'kt', 'kts'), code('Scala', 'scala'), code('Groovy', 'groovy', 'gradle'),
  code('C#', 'cs'), code('F#', 'fs', 'fsx'), code('Swift', 'swift'), code('Objective-C', 'm', 'mm'),
  code('Ruby', 'rb', 'rake', 'gemspec'), code('PHP', 'php'), code('Perl', 'pl', 'pm', 't'), code('Lua', 'lua'),
  code('Shell', 'sh', 'bash', 'zsh', 'ksh', 'fish', 'bats'), code('PowerShell', 'ps1', 'psm1'), code('Batch', 'bat', 'cmd'),
  code('Haskell', 'hs'), code('OCaml', 'ml', 'mli'), code('Erlang', 'erl', 'hrl'), code('Elixir', 'ex', 'exs'),
  code('Clojure', 'clj', 'cljs', 'cljc', 'edn'), code('Lisp', 'lisp', 'el', 'cl'), code('Scheme', 'scm', 'ss', 'rkt'),
  code('R', 'r'), code('Julia', 'jl'), code('Dart', 'dart'), code('Zig', 'zig'), code('Nim', 'nim'), code('D', 'd'),
  code('Assembly', 's', 'asm'), code('WebAssembly text', 'wat', 'wast'), code('Fortran', 'f', 'f90', 'f95'),
  code('Pascal', 'pas'), code('Ada', 'adb', 'ads'), code('SQL', 'sql'), code('CUDA', 'cu'), code('Solidity', 'sol'),
  code('Tcl', 'tcl'), code('Vim script', 'vim'), code('Awk', 'awk'), code('Makefile', 'mk', 'mak'), code('CMake', 'cmake'),
  code('Nix', 'nix'), code('Terraform', 'tf'), code('Vue', 'vue'), code('Svelte', 'svelte'), code('Protocol Buffers', 'proto'),
  code('GraphQL', 'graphql', 'gql'), code('Starlark', 'bzl', 'star'), code('Yacc', 'y', 'yy'), code('Lex', 'l', 'll'), code('M4', 'm4', 'ac'),
  markup('HTML', 'html', 'htm', 'xhtml'), markup('CSS', 'css'), markup('Sass', 'scss', 'sass'), markup('Less', 'less'),
  markup('XML', 'xml', 'xsd', 'xsl', 'xslt', 'plist'), markup('SVG', 'svg'), markup('Jinja', 'j2', 'jinja', 'jinja2'),
  markup('Handlebars', 'hbs'), markup('EJS', 'ejs'),
  data('JSON', 'json', 'jsonc', 'json5', 'webmanifest', 'ipynb'), data('JSON lines', 'jsonl', 'ndjson'),
  data('YAML', 'yml', 'yaml'), data('TOML', 'toml'), data('INI', 'ini', 'cfg', 'conf', 'properties'), data('CSV', 'csv', 'tsv'),
  text('Markdown', 'md', 'markdown', 'mdx'), text('reStructuredText', 'rst'), text('AsciiDoc', 'adoc', 'asciidoc'),
  text('TeX', 'tex', 'bib'), text('Manual page', '1', '2', '3', '4', '5', '6', '7', '8'), text('Text', 'txt'),
];

const NAMES = new Map([
  ['Makefile', 'Makefile'], ['GNUmakefile', 'Makefile'], ['makefile', 'Makefile'], ['Dockerfile', 'Dockerfile'],
  ['Containerfile', 'Dockerfile'], ['CMakeLists.txt', 'CMake'], ['Rakefile', 'Ruby'], ['Gemfile', 'Ruby'],
  ['BUILD', 'Starlark'], ['BUILD.bazel', 'Starlark'], ['WORKSPACE', 'Starlark'], ['Jenkinsfile', 'Groovy'],
  ['meson.build', 'Meson'], ['go.mod', 'Go module'], ['Vagrantfile', 'Ruby'], ['Justfile', 'Just'], ['justfile', 'Just'],
]);
const SHEBANGS = [
  [/\bpython[0-9.]*\b/, 'Python'], [/\b(?:ba|z|k|da|fi)?sh\b/, 'Shell'], [/\b(?:node|deno|bun)\b/, 'JavaScript'],
  [/\bperl\b/, 'Perl'], [/\bruby\b/, 'Ruby'], [/\bphp\b/, 'PHP'], [/\blua\b/, 'Lua'], [/\bawk\b/, 'Awk'],
];

const BY_ENDING = new Map(TABLE.flatMap(([name, , endings]) => endings.map((ending) => [ending, name])));
const SORTS = new Map([...TABLE.map(([name, sort]) => [name, sort]), ['Dockerfile', 'code'], ['Meson', 'code'], ['Just', 'code'], ['Go module', 'data']]);

export function language(name) {
  const whole = NAMES.get(name);
  if (whole) return whole;
  if (/^Dockerfile\./.test(name)) return 'Dockerfile';
  const dot = name.lastIndexOf('.');
  return dot > 0 ? BY_ENDING.get(name.slice(dot + 1).toLowerCase()) ?? '' : '';
}

// What a file without an ending is, if it is a script.
export function scripted(text) {
  if (!/^#![ \t]*\//.test(text)) return '';
  const first = text.slice(0, 200).split('\n', 1)[0];
  return SHEBANGS.find(([pattern]) => pattern.test(first))?.[1] ?? '';
}

export const sort = (language) => SORTS.get(language) ?? 'other';

// A tool made these: they say little about the project, however long they are.
const MADE = [
  /(^|\/)(package-lock|npm-shrinkwrap)\.json$/, /\.lock$/, /(^|\/)(pnpm-lock\.yaml|go\.sum|yarn\.lock)$/,
  /\.min\.(js|css|mjs)$/, /\.(map|snap)$/, /[._-]pb2?(_grpc)?\.(py|go)$/, /\.generated\.\w+$/, /\.bundle\.js$/,
];

export function generated(path, text) {
  if (MADE.some((pattern) => pattern.test(path))) return true;
  const head = text.slice(0, 600);
  if (/Code generated .* DO NOT EDIT/.test(head) || /@generated\b/.test(head)) return true;
  // A few endless lines are what a bundler leaves.
  return /\.(js|mjs|cjs|css)$/.test(path) && text.length > 20000 && text.length / (text.split('\n', 200).length) > 1000
    && text.split('\n').length < text.length / 1000;
}
