// The last page: answers are sent to the server that serves the page, or saved as a file. They stay in the browser until
// the server has confirmed them, or the listener says that the file is there.

const COLLECTOR = document.querySelector("meta[name=collector]").content; // address of the answers; empty on a page from disk

// The order of this participant, from the server, which balances them; null without a server, or if it does not answer.
async function askOrder(participant, number) {
  if (!COLLECTOR) return null;
  try {
    const reply = await post("order", { test_id: study.test_id, participant, number });
    const row = (await reply.json()).order;
    return Number.isInteger(row) && row >= 0 && row < study.sessions.length ? row : null;
  } catch {
    return null;
  }
}

function post(address, data) {
  const body = typeof data === "string" ? data : JSON.stringify(data);
  const signal = AbortSignal.timeout(30000);
  return fetch(address, { method: "POST", headers: { "Content-Type": "application/json" }, body, signal });
}

function finishPage() {
  $("copy").value = toCsv(session);
  for (const name of ["completion", "again", "there"]) $(name).hidden = true;
  $("saving").hidden = Boolean(COLLECTOR);
  if (COLLECTOR) send();
  else showFinish("save_heading", word("save_lead"));
}

function showFinish(heading, lead) {
  show("finish", { eyebrow: word("thank_you"), heading: word(heading), button: "", done: 1, total: 1, progress: word("all_answered") });
  $("finish-lead").textContent = lead;
}

async function send() {
  showFinish("send_heading", word("sending"));
  $("again").hidden = true;
  let reason = word("no_answer");
  try {
    const reply = await post(COLLECTOR, toJson(session));
    const told = await reply.json();
    if (reply.ok && told.stored === true) return arrived(told.completion || "");
    reason = told.error || `${reply.status}`;
  } catch {
    // no connection, or no answer in time
  }
  showFinish("not_sent_heading", word("not_sent", { reason }));
  $("again").hidden = false;
  $("saving").hidden = false;
  say($("finish-lead").textContent);
}

// completion: a code, or an address to return to.
function arrived(completion) {
  done();
  const isAddress = /^https?:\/\//.test(completion);
  showFinish("sent_heading", word(isAddress ? "sent_return" : completion ? "sent_code" : "sent"));
  $("saving").hidden = true;
  $("completion").hidden = !completion;
  $("completion-name").hidden = $("completion-code").hidden = isAddress;
  $("completion-code").textContent = isAddress ? "" : completion;
  $("completion-link").hidden = !isAddress;
  if (isAddress) $("completion-link").href = completion;
  say($("finish-lead").textContent);
}

// The answers are known to be elsewhere: only now the browser forgets them.
function done() {
  saved = true;
  keep.forget(session);
}

function download(kind, text, type) {
  const name = `${study.test_id}__${session.session_id}.${kind}`;
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = make("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
  $("saved").hidden = true;
  $("there").dataset.file = name;
  $("there-text").textContent = word("handed_over", { name });
  $("there").hidden = false;
  $("there").scrollIntoView({ block: "nearest" });
  $("there-yes").focus();
  say($("there-text").textContent);
}

function tellSaved(text) {
  done();
  $("there").hidden = true;
  $("again").hidden = true;
  $("saved").textContent = text;
  $("saved").hidden = false;
  say(text);
}

$("send").addEventListener("click", send);
$("save-csv").addEventListener("click", () => download("csv", toCsv(session), "text/csv;charset=utf-8"));
$("save-json").addEventListener("click", () => download("json", toJson(session), "application/json"));
$("there-yes").addEventListener("click", () => tellSaved(word("kept", { name: $("there").dataset.file })));
$("there-no").addEventListener("click", () => {
  $("there").hidden = true;
  $("copying").open = true;
  $("copy").focus();
  $("copy").select();
});
$("copied").addEventListener("click", () => tellSaved(word("text_kept")));
