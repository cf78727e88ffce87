"use strict";
// The sample explorer and the copy buttons. Text of models and users reaches the page by textContent alone.
(() => {
  const ROW = 58; // pixels of one entry of the list, as in page.css
  const SPARE = 6; // entries drawn beyond the visible ones
  const SIGNS = { right: "✓", wrong: "✗", error: "!" };

  const byId = (id) => document.getElementById(id);

  /** An element with these properties and children; strings become text. */
  function make(tag, properties = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (value === null || value === undefined) continue;
      if (name === "class") node.className = value;
      else node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }

  for (const command of document.querySelectorAll("code.command")) {
    const button = make("button", { type: "button", class: "copy", "aria-label": `Copy: ${command.textContent}` }, "Copy");
    button.addEventListener("click", () => copy(command, button));
    command.after(button);
  }

  async function copy(command, button) {
    try {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(command); // pages opened from disk may not write the clipboard
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }

  const source = byId("explorer-data");
  if (!source) return;
  const { candidates, right_from: rightFrom, texts, names, samples, turns, requests, trials } = JSON.parse(source.textContent);
  const [sampleIds, sampleInputs, sampleTargets] = samples;
  const count = trials.candidate.length;

  const text = (at) => (Array.isArray(at) ? at.map((part) => texts[part]).join("\n\n") : texts[at]);
  const opening = (at) => texts[Array.isArray(at) ? at[0] : at];
  const place = (candidate, sample, kind) => (sample * names.length + kind) * candidates.length + candidate;

  const trialAt = new Map();
  const outcomes = new Array(count);
  for (let trial = 0; trial < count; trial++) {
    trialAt.set(place(trials.candidate[trial], trials.sample[trial], trials.kind[trial]), trial);
    const score = trials.score[trial];
    outcomes[trial] = score === null ? "error" : score >= rightFrom ? "right" : "wrong";
  }

  const controls = Object.fromEntries(
    ["candidate", "beside", "outcome", "cause", "kind", "search"].map((name) => [name, byId(`explorer-${name}`)]),
  );
  const list = byId("explorer-list");
  const spacer = byId("explorer-rows");
  const detail = byId("explorer-detail");
  let found = [];
  let chosen = -1; // position in found

  function options(select, entries) {
    for (const [value, label] of entries) select.append(make("option", { value }, label));
  }
  const used = (column) => [...new Set(trials[column])].filter((at) => at !== null).map((at) => [at, names[at]]);
  options(controls.candidate, candidates.map((one, at) => [at, one.label]));
  options(controls.beside, candidates.map((one, at) => [at, one.label]));
  options(controls.cause, used("cause"));
  options(controls.kind, used("kind"));
  controls.kind.value = String(names.indexOf("test"));
  const picked = candidates.findIndex((one) => one.picked);
  controls.candidate.value = picked < 0 ? "" : String(picked);

  let lowered = null;
  /** Which texts hold the words looked for. */
  function hits(query) {
    lowered ??= texts.map((one) => one.toLowerCase());
    return lowered.map((one) => one.includes(query));
  }

  function besideOf(trial) {
    if (controls.beside.value === "") return undefined;
    return trialAt.get(place(Number(controls.beside.value), trials.sample[trial], trials.kind[trial]));
  }

  function filter() {
    const [candidate, cause, kind] = ["candidate", "cause", "kind"].map((name) => controls[name].value);
    const outcome = controls.outcome.value;
    const query = controls.search.value.trim().toLowerCase();
    const hit = query ? hits(query) : null;
    const holds = (at) => (Array.isArray(at) ? at.some((part) => hit[part]) : at !== null && hit[at]);
    const matches = (trial) => {
      const sample = trials.sample[trial];
      return sampleIds[sample].toLowerCase().includes(query)
        || [trials.output[trial], trials.error[trial], trials.reason[trial], sampleInputs[sample], sampleTargets[sample]].some(holds);
    };
    const differs = (trial) => {
      const other = besideOf(trial);
      return other !== undefined && outcomes[other] !== outcomes[trial];
    };
    found = [];
    for (let trial = 0; trial < count; trial++) {
      if (candidate !== "" && trials.candidate[trial] !== Number(candidate)) continue;
      if (cause !== "" && trials.cause[trial] !== Number(cause)) continue;
      if (kind !== "" && trials.kind[trial] !== Number(kind)) continue;
      if (outcome === "differs" ? !differs(trial) : outcome !== "" && outcomes[trial] !== outcome) continue;
      if (hit && !matches(trial)) continue;
      found.push(trial);
    }
    byId("explorer-count").textContent = `${found.length.toLocaleString("en")} of ${count.toLocaleString("en")} trials`;
    spacer.style.height = `${found.length * ROW}px`;
    list.scrollTop = 0;
    choose(found.length ? 0 : -1);
  }

  /** Draw the entries that can be seen, and no others. */
  function draw() {
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - SPARE);
    const last = Math.min(found.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + SPARE);
    spacer.replaceChildren();
    for (let at = first; at < last; at++) spacer.append(entry(at));
  }

  function entry(at) {
    const trial = found[at];
    const sample = trials.sample[trial];
    const outcome = outcomes[trial];
    const input = sampleInputs[sample];
    const node = make(
      "div",
      {
        class: `entry ${outcome}`, role: "option", id: `entry-${at}`, "aria-selected": String(at === chosen),
        "aria-posinset": at + 1, "aria-setsize": found.length,
      },
      make("span", { class: "sign", "aria-hidden": "true" }, SIGNS[outcome]),
      make("span", { class: "title" }, `${candidates[trials.candidate[trial]].label} · ${sampleIds[sample]} · ${outcome}`),
      make("span", { class: "snippet" }, input === null ? "" : opening(input).slice(0, 160)),
    );
    node.style.top = `${at * ROW}px`;
    node.addEventListener("click", () => choose(at));
    return node;
  }

  function choose(at) {
    chosen = at;
    if (at >= 0) {
      const top = at * ROW;
      if (top < list.scrollTop) list.scrollTop = top;
      else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
    }
    draw();
    if (at < 0) list.removeAttribute("aria-activedescendant");
    else list.setAttribute("aria-activedescendant", `entry-${at}`);
    show(at < 0 ? undefined : found[at]);
  }

  function show(trial) {
    detail.replaceChildren();
    if (trial === undefined) {
      detail.append(make("p", { class: "muted" }, "No trial fits these filters."));
      return;
    }
    const sample = trials.sample[trial];
    detail.append(make("h3", {}, sampleIds[sample]));
    if (sampleInputs[sample] !== null) {
      detail.append(passage("Input", text(sampleInputs[sample])), passage("Target", text(sampleTargets[sample])));
    }
    const columns = make("div", { class: "beside" }, answer(trial));
    const other = besideOf(trial);
    if (other !== undefined && other !== trial) columns.append(answer(other));
    else if (controls.beside.value !== "" && other === undefined) {
      columns.append(make("p", { class: "muted" }, "The other candidate was not asked about this sample."));
    }
    detail.append(columns);
  }

  const passage = (title, content) => make("div", { class: "passage" }, make("h4", {}, title), make("pre", {}, content));

  function answer(trial) {
    const outcome = outcomes[trial];
    const score = trials.score[trial];
    const column = make(
      "section",
      { class: "answer" },
      make("h4", { class: "who" }, candidates[trials.candidate[trial]].id),
      make("p", { class: `badge ${outcome}` }, `${SIGNS[outcome]} ${outcome}`),
    );
    if (trials.error[trial] !== null) column.append(passage("Error", text(trials.error[trial])));
    else column.append(passage("Answer", text(trials.output[trial])));
    const cause = trials.cause[trial];
    const facts = [
      ["score", score === null ? null : `${score}${trials.reason[trial] === null ? "" : ` · ${text(trials.reason[trial])}`}`],
      ["cause", cause === null ? null : names[cause]],
      ["tokens", `${trials.input[trial]} in (${trials.cached[trial]} cached), ${trials.written[trial]} out`],
      ["cost", trials.usd[trial] === null ? "unknown" : `$${trials.usd[trial]}`],
      ["time", `${trials.seconds[trial]} s`],
      ["trial", names[trials.kind[trial]]],
    ];
    const shown = facts.filter(([, value]) => value !== null);
    column.append(make("dl", {}, ...shown.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])));
    for (const [name, output, input, written, usd, seconds] of trials.steps[trial] ?? []) {
      const took = `${input} + ${written} tokens, ${usd === null ? "unknown cost" : `$${usd}`}, ${seconds} s`;
      column.append(folded(`Step ${names[name]}: ${took}`, make("pre", {}, text(output))));
    }
    const asked = trials.requests[trial];
    if (asked === null) column.append(make("p", { class: "muted" }, "No prompt is kept in this file."));
    else asked.forEach((request, at) => column.append(prompt(request, at, asked.length)));
    return column;
  }

  const folded = (title, ...children) => make("details", {}, make("summary", {}, title), ...children);

  function prompt(request, at, total) {
    const [last, settings, reply, calls] = requests[request];
    const messages = [];
    for (let turn = last; turn !== null; turn = turns[turn][0]) {
      const [, role, content, called] = turns[turn];
      if (called !== null) messages.unshift(message("calls", text(called)));
      messages.unshift(message(names[role], text(content)));
    }
    const title = total === 1 ? "Prompt as sent" : `Prompt ${at + 1} of ${total} as sent`;
    const replies = [message("answer", text(reply))];
    if (calls !== null) replies.push(message("answer calls", text(calls)));
    return folded(title, ...messages, ...replies, folded("Settings", make("pre", {}, text(settings))));
  }

  const message = (role, content) =>
    make("div", { class: "message" }, make("span", { class: "role" }, role), make("pre", {}, content));

  const MOVES = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8, Home: -Infinity, End: Infinity };
  list.addEventListener("keydown", (event) => {
    if (!(event.key in MOVES) || !found.length) return;
    event.preventDefault();
    choose(Math.min(found.length - 1, Math.max(0, chosen + MOVES[event.key])));
  });
  let waiting = false;
  list.addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  }, { passive: true });
  addEventListener("resize", draw);

  let pause;
  controls.search.addEventListener("input", () => { clearTimeout(pause); pause = setTimeout(filter, 120); });
  for (const name of ["candidate", "outcome", "cause", "kind"]) controls[name].addEventListener("change", filter);
  controls.beside.addEventListener("change", () => {
    if (controls.outcome.value === "differs") filter();
    else show(found[chosen]);
  });
  byId("explorer").hidden = false;
  filter();
})();
