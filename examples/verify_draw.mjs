// Repeats a lucky draw from its verification document: node verify_draw.mjs FILE-OR-URL
// Needs Node 18 or newer and nothing else. Exits with 0 when the draw is what it should be.
import { createHash, createHmac } from "node:crypto";
import { readFile } from "node:fs/promises";

const source = process.argv[2];
if (!source) {
  console.error("usage: node verify_draw.mjs FILE-OR-URL   (token for a URL: JIXIE_TOKEN)");
  process.exit(1);
}

async function load(from) {
  if (!/^https?:/.test(from)) return JSON.parse(await readFile(from, "utf8"));
  const token = process.env.JIXIE_TOKEN;
  const answer = await fetch(from, token ? { headers: { authorization: `Bearer ${token}` } } : {});
  if (!answer.ok) throw new Error(`the service answered ${answer.status}`);
  return answer.json();
}

const sha256 = (...parts) => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
};
const hmac = (key, text) => createHmac("sha256", key).update(text, "utf8").digest();
const byBytes = (a, b) => Buffer.compare(Buffer.from(a, "utf8"), Buffer.from(b, "utf8"));

function* check(draw) {
  yield ["protocol", draw.protocol === "jixie-draw-v1"];
  yield ["status is drawn", draw.status === "drawn"];
  const seed = Buffer.from(draw.seed ?? "", "hex");
  yield ["seed has 32 bytes", seed.length === 32];
  yield ["commitment", draw.commitment === sha256("jixie-draw-v1", draw.draw_id, seed)];
  const tickets = [...draw.tickets].sort(byBytes);
  yield ["no ticket twice", new Set(tickets).size === tickets.length];
  yield ["ticket count", tickets.length === draw.ticket_count];
  yield ["digest", draw.digest === sha256(...tickets.map((ticket) => `${ticket}\n`))];
  const closed = Date.parse(draw.closed_at), beacon = Date.parse(draw.beacon_at);
  yield ["closed before the beacon", Date.parse(draw.closes_at) <= closed && closed < beacon];
  const key = hmac(seed, `${draw.draw_id}${draw.beacon_value}${draw.digest}`);
  const ranking = tickets
    .map((ticket) => [hmac(key, ticket), ticket])
    .sort((a, b) => Buffer.compare(a[0], b[0]) || byBytes(a[1], b[1]))
    .map(([, ticket]) => ticket);
  const places = ranking.slice(0, draw.winner_count + draw.reserve_count);
  const winners = draw.winners;
  yield ["places", winners.length === places.length];
  yield ["ranking", winners.every((each, n) => each.rank === n + 1 && each.ticket === places[n])];
  const units = draw.prizes.flatMap((prize) => Array(prize.quantity).fill(prize.number));
  yield ["prizes", units.length === draw.winner_count
    && winners.slice(0, units.length).every((each, n) => each.prize_number === units[n])];
  // Reserves move up in their order, each for one prize that was given up.
  const moved = winners.slice(units.length).map((each) => each.prize_number !== null);
  yield ["reserves move up in turn", moved.lastIndexOf(true) === moved.filter(Boolean).length - 1];
  const has = (statuses) => winners.filter((each) => statuses.includes(each.status));
  yield ["no prize twice", draw.prizes.every((prize) =>
    has(["winning", "handed_out"]).filter((each) => each.prize_number === prize.number).length
      <= prize.quantity)];
  yield ["each moved up for one given up",
    moved.filter(Boolean).length <= has(["declined", "lapsed"]).length];
}

let failed = 0;
try {
  for (const [name, holds] of check(await load(source))) {
    console.log(`${holds ? "ok  " : "FAIL"} ${name}`);
    failed += holds ? 0 : 1;
  }
} catch (error) {
  console.log(`FAIL this is no verification document: ${error.message}`);
  failed = 1;
}
process.exit(failed ? 1 : 0);
