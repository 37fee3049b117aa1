// Announcer: publishes the newest version of a changelog as a note on Nostr, once.
//
//     announce.js [--dry-run] [--link URL] [CHANGELOG]
//
// It reads a changelog (Keep a Changelog; default: /workspace/CHANGELOG.md) and the notes that were
// published before, through /cap/nostr, which signs: this program never sees a key. It ends with 0
// when a relay has taken the note, or had it already.
import * as std from "qjs:std";

const LONGEST = 1_000;
const fail = sentence => { std.err.puts(`announce: ${sentence}\n`); std.exit(1); };

function options(words) {
    const given = { dry: false, link: "", file: "/workspace/CHANGELOG.md" };
    while (words.length) {
        const word = words.shift();
        if (word === "--dry-run") given.dry = true;
        else if (word === "--link") given.link = words.shift() ?? fail("--link wants a URL");
        else if (word.startsWith("-")) fail(`there is no option ${word}`);
        else given.file = word;
    }
    return given;
}

// The newest version that has a number, and its entries, each in one line.
function newest(text) {
    const sections = text.split(/^## /m).slice(1);
    for (const section of sections) {
        const [heading, ...lines] = section.split("\n");
        const version = /^\[?v?(\d+\.\d+[^\]\s]*)/.exec(heading)?.[1];
        if (!version) continue;
        const entries = [];
        for (const line of lines) {
            if (/^[-*] /.test(line)) entries.push(line.slice(2).trim());
            else if (/^\s+\S/.test(line) && entries.length) entries.push(`${entries.pop()} ${line.trim()}`);
        }
        return { version, entries };
    }
    return null;
}

function note({ version, entries }, link) {
    const name = (std.loadFile("/workspace/README.md") ?? "").match(/^# (.+)$/m)?.[1] ?? "A project";
    let content = `${name} ${version} is out.\n`;
    for (const entry of entries) {
        const line = `\n• ${entry.replace(/[`*_]/g, "")}`;
        if (content.length + line.length > LONGEST) { content += "\n• …"; break; }
        content += line;
    }
    if (link) content += `\n\n${link}`;
    const tags = [["t", "release"], ["t", mark(version)], ...(link ? [["r", link]] : [])];
    return { kind: 1, content, tags };
}

const mark = version => `release-${version}`.toLowerCase();

// What was announced before, by the same key: a line for each note.
function announced(version) {
    const pubkey = std.loadFile("/cap/nostr/pubkey")?.trim();
    if (!pubkey) fail("there is no key; make one: oanix nostr key new");
    const query = `kinds=1&authors=${pubkey}&#t=${mark(version)}`;
    const found = std.loadFile(`/cap/nostr/req/${query}`);
    return (found ?? "").split("\n").filter(line => line).map(line => JSON.parse(line));
}

// Publishes an event, and gives what each relay says to it.
function publish(event) {
    const problem = {};
    const file = std.open("/cap/nostr/publish", "r+", problem);
    if (!file) fail(`/cap/nostr/publish: ${std.strerror(problem.errno)}; grant it: --grant /cap/nostr`);
    file.puts(JSON.stringify(event) + "\n");
    if (file.flush() < 0 || file.error()) fail(told("it was not published"));
    const answers = [];
    for (let line; (line = file.getline()); ) answers.push(JSON.parse(line));
    if (!answers.length) fail(told("no relay has answered"));
    return answers;
}

function told(otherwise) {
    const lines = (std.loadFile("/dev/errstr") ?? "").trim().split("\n");
    return lines.at(-1)?.replace(/^[^:]*: /, "") || otherwise;
}

const given = options(scriptArgs.slice(1));
const text = std.loadFile(given.file) ?? fail(`${given.file} cannot be read`);
const found = newest(text) ?? fail(`${given.file} names no version`);
const event = note(found, given.link);
if (given.dry) {
    console.log(event.content);
    std.exit(0);
}
const before = announced(found.version);
if (before.length) {
    console.log(`${found.version} was announced before: ${before[0].id}`);
    std.exit(0);
}
const answers = publish(event);
for (const { relay, ok, message } of answers) {
    console.log(`${relay}: ${ok ? "taken" : ok === null ? "on its way" : message}`);
}
const result = std.open("/task/result.json", "w");
result?.puts(JSON.stringify({ version: found.version, id: answers[0].id, relays: answers }));
result?.close();
console.log(`announced ${found.version}: ${answers[0].id}`);
std.exit(answers.some(answer => answer.ok) ? 0 : 1);
