// A client of nostr-tools: `node nostr_tools.js SCENE` does one scene with a relay.
//
// What the scene needs comes as JSON on stdin, what was seen goes as JSON to stdout; the test that
// started it judges. Every wait has a deadline.

import { readFileSync } from "node:fs";

import * as nip11 from "nostr-tools/nip11";
import * as nip13 from "nostr-tools/nip13";
import * as nip17 from "nostr-tools/nip17";
import * as nip19 from "nostr-tools/nip19";
import * as nip44 from "nostr-tools/nip44";
import * as nip98 from "nostr-tools/nip98";
import { finalizeEvent, getPublicKey } from "nostr-tools/pure";
import { Relay, useWebSocketImplementation } from "nostr-tools/relay";
import { bytesToHex, hexToBytes } from "nostr-tools/utils";
import WebSocket from "ws";

const PATIENCE_MS = 10_000;
const given = JSON.parse(readFileSync(0, "utf8"));
const secret = hexToBytes(given.secret);
const pubkey = getPublicKey(secret);
const now = Math.floor(Date.now() / 1000);

useWebSocketImplementation(WebSocket);

function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing came in time`)), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const connect = () => within("connect", Relay.connect(given.url));

function sign(kind, content = "", tags = [], at = now) {
  return finalizeEvent({ kind, content, tags, created_at: at }, secret);
}

const made = (template) => finalizeEvent(template, secret);

// Gives the text of the OK, and whether it was true.
async function put(relay, event) {
  try {
    return [true, await within("publish", relay.publish(event))];
  } catch (error) {
    return [false, error.message];
  }
}

// Gives what is stored; an event that nostr-tools finds wrong, and a CLOSED, are errors.
function stored(relay, ...filters) {
  return within("EOSE", new Promise((resolve, reject) => {
    const found = [];
    const asking = relay.subscribe(filters, {
      onevent: (event) => found.push(event),
      oninvalidevent: (event) => reject(new Error(`invalid: ${JSON.stringify(event)}`)),
      onclose: (reason) => reject(new Error(reason)),
      oneose: () => {
        resolve(found);
        asking.close();
      },
    });
  }));
}

// By the answer to a question, whatever it is, the relay's challenge has come.
async function prove(relay, key) {
  await stored(relay, { limit: 0 }).catch(() => "refused, or not");
  await within("AUTH", relay.auth(async (template) => finalizeEvent(template, key)));
}

async function ids(relay, ...filters) {
  return (await stored(relay, ...filters)).map((event) => event.id);
}

// Listens until so many events have come after the EOSE.
function listen(relay, filter, count) {
  let begun;
  const ready = new Promise((resolve) => { begun = resolve; });
  const heard = new Promise((resolve, reject) => {
    const before = [], after = [];
    let past = false;
    relay.subscribe([filter], {
      onevent: (event) => {
        (past ? after : before).push(event.content);
        if (after.length === count) resolve({ before, after });
      },
      oninvalidevent: (event) => reject(new Error(`invalid: ${JSON.stringify(event)}`)),
      oneose: () => { past = true; begun(); },
    });
  });
  return { ready: within("EOSE", ready), heard: within("live events", heard) };
}

const scenes = {
  async notes(relay) {
    const other = await connect();
    const first = sign(1, given.texts[0]);
    const answers = [await put(relay, first)];
    const { ready, heard } = listen(other, { kinds: [1], authors: [pubkey] }, given.texts.length - 1);
    await ready;
    for (const text of given.texts.slice(1)) answers.push(await put(relay, sign(1, text)));
    const again = await put(relay, first);
    const forged = await put(relay, { ...sign(1, "mine"), content: "another's" });
    const none = await ids(relay, { kinds: [1], limit: 0 });
    const found = await stored(relay, { kinds: [1], authors: [pubkey] });
    other.close();
    return { answers, again, forged, none, heard: await heard, found: found.map((e) => e.content) };
  },

  async versions(relay) {
    const kept = [
      sign(0, "new", [], now), sign(30_023, "a, new", [["d", "a"]]), sign(30_023, "b", [["d", "b"]]),
    ];
    const answers = [
      await put(relay, sign(0, "old", [], now - 1)),
      await put(relay, sign(30_023, "a, old", [["d", "a"]], now - 1)),
    ];
    for (const event of kept) answers.push(await put(relay, event));
    const late = await put(relay, sign(0, "older", [], now - 2));
    const found = await stored(relay, { kinds: [0, 30_023], authors: [pubkey] });
    return { answers, late, found: found.map((event) => event.content).sort() };
  },

  async deletion(relay) {
    const note = sign(1, "regretted"), page = sign(30_023, "page", [["d", "x"]]);
    const stays = sign(1, "stays");
    for (const event of [note, page, stays]) await put(relay, event);
    const tags = [["e", note.id], ["a", `30023:${pubkey}:x`], ["k", "1"], ["k", "30023"]];
    const answer = await put(relay, sign(5, "", tags));
    const found = await ids(relay, { kinds: [1, 30_023], authors: [pubkey] });
    return { answer, found, stays: stays.id, again: await put(relay, note) };
  },

  async proof(relay) {
    const mine = sign(1, "mine alone", [["-"]]);
    const refused = await put(relay, mine);
    const asked = await stored(relay, { kinds: [1] }).catch((error) => error.message);
    await prove(relay, secret);
    const answer = await put(relay, mine);
    const other = await connect();
    await prove(other, hexToBytes(given.other));
    const foreign = await put(other, sign(1, "not yours to publish", [["-"]]));
    other.close();
    return { refused, asked, answer, found: await ids(relay, { kinds: [1] }), id: mine.id, foreign };
  },

  async letters(relay) {
    const wrapped = nip17.wrapManyEvents(secret, [{ publicKey: given.reader }], given.text, "Subject");
    const answers = [];
    for (const event of wrapped) answers.push(await put(relay, event));
    const hidden = await ids(relay, { kinds: [1, 1059] });
    await prove(relay, secret);
    const found = await stored(relay, { kinds: [1059], "#p": [pubkey] });
    const letters = found.map((event) => nip17.unwrapEvent(event, secret));
    return { answers, hidden, letters: letters.filter((letter) => letter.pubkey === given.reader) };
  },

  async secrets() {
    const key = nip44.getConversationKey(secret, given.peer);
    return {
      key: bytesToHex(key),
      read: given.payloads.map((payload) => nip44.decrypt(payload, key)),
      written: given.texts.map((text) => nip44.encrypt(text, key)),
    };
  },

  async names() {
    const read = given.texts.map((text) => nip19.decode(text));
    const { id, author, relays, kind, identifier } = given.pointer;
    return {
      read: read.map(({ type, data }) => [type, type === "nsec" ? bytesToHex(data) : data]),
      written: [
        nip19.npubEncode(author), nip19.nsecEncode(hexToBytes(id)), nip19.noteEncode(id),
        nip19.nprofileEncode({ pubkey: author, relays }),
        nip19.neventEncode({ id, relays, author, kind: 1 }),
        nip19.naddrEncode({ identifier, pubkey: author, kind, relays }),
      ],
    };
  },

  async management() {
    const url = given.url.replace("ws:", "http:");
    const ask = async (method, params, signed) => {
      const body = { method, params };
      const token = await nip98.getToken(url, "POST", made, true, signed ?? body);
      const signal = AbortSignal.timeout(PATIENCE_MS);
      const headers = { "Content-Type": "application/nostr+json+rpc", Authorization: token };
      const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(body), signal });
      return [answer.status, await answer.json()];
    };
    return {
      methods: await ask("supportedmethods", []),
      banned: await ask("banpubkey", [given.banned, "spam"]),
      listed: await ask("listbannedpubkeys", []),
      other: await ask("unbanpubkey", [given.banned], { method: "supportedmethods", params: [] }),
    };
  },

  async count(relay) {
    for (let n = 0; n < 12; n++) await put(relay, sign(n % 3 ? 1 : 7, `${n}`));
    const filters = [{ kinds: [1, 7] }, { kinds: [7], authors: [pubkey] }, { kinds: [3] }];
    const counted = [];
    for (const filter of filters) {
      counted.push(await within("COUNT", relay.count([filter], { id: `c${counted.length}` })));
    }
    return { counted };
  },

  async document() {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    nip11.useFetchImplementation((url, options) => fetch(url, { ...options, signal }));
    return { document: await nip11.fetchRelayInformation(given.url) };
  },

  async work(relay) {
    const easy = await put(relay, sign(1, "without"));
    const template = { kind: 1, content: "with", tags: [], created_at: now, pubkey };
    const worked = finalizeEvent(nip13.minePow(template, given.bits), secret);
    return { easy, answer: await put(relay, worked), bits: nip13.getPow(worked.id), id: worked.id };
  },
};

const scene = scenes[process.argv[2]];
const relay = given.url ? await connect() : undefined;
const seen = await scene(relay);
relay?.close();
// Its timers outlive what they were for.
process.stdout.write(JSON.stringify(seen), () => process.exit());
