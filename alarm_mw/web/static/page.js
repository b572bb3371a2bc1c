// What the page does beside showing: live updates that move nothing under the pointer, times that tick, keys.
"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const stored = {
    get: (name) => { try { return localStorage.getItem(name); } catch { return null; } },
    set: (name, value) => { try { localStorage.setItem(name, value); } catch { /* private mode */ } },
  };

  // Times: as on the server, one line for each unit.

  function span(seconds) {
    if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} s`;
    const parts = [];
    let rest = Math.floor(seconds);
    for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]) {
      const n = Math.floor(rest / size);
      rest %= size;
      if (n) parts.push(`${n} ${unit}`);
      else if (parts.length) break;
    }
    return parts.slice(0, 2).join(" ");
  }

  function tick() {
    const now = Date.now();
    for (const each of $$("time[data-ago], time[data-since]")) {
      const seconds = (now - Date.parse(each.dateTime)) / 1000;
      const text = "since" in each.dataset ? span(seconds)
        : seconds < 1 ? (seconds > -1 ? "now" : `in ${span(-seconds)}`) : `${span(seconds)} ago`;
      if (each.textContent !== text) each.textContent = text;
    }
  }
  setInterval(tick, 1000);

  // Dark and light: a cookie carries the choice to the server, so that no page flashes.

  const theme = $("#theme");
  if (theme) {
    theme.hidden = false;
    theme.addEventListener("click", () => {
      const root = document.documentElement;
      const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = isDark ? "light" : "dark";
      document.cookie = `alarm_mw_theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=strict`;
    });
  }

  // The number of open incidents, in the title and on the icon.

  function showOpen(open, isWell) {
    document.title = (open ? `(${open}) ` : "") + document.title.replace(/^\(\d+\) /, "");
    for (const [selector, attribute] of [["#favicon", "href"], ["#mark", "src"]]) {
      const url = `/favicon.svg?n=${open}${open || isWell ? "" : "&well=0"}`;
      const element = $(selector);
      if (element && element.getAttribute(attribute) !== url) element.setAttribute(attribute, url);
    }
    showBadge("now", open);
  }

  function showBadge(name, text, tone) {
    const badge = $(`[data-badge="${name}"]`);
    if (!badge) return;
    if (tone !== undefined) badge.className = `badge ${tone}`;
    if (badge.textContent === String(text)) return;
    badge.hidden = !text;
    badge.textContent = text || "";
  }

  // Sound and notifications, where they are wanted.

  const alerts = $("#alerts");
  if (alerts) {
    alerts.hidden = false;
    for (const name of ["sound", "notify"]) {
      const box = $(`#${name}`);
      box.checked = stored.get(`alarm_mw_${name}`) === "1";
      box.addEventListener("change", async () => {
        if (name === "notify" && box.checked && Notification.permission !== "granted") {
          box.checked = (await Notification.requestPermission()) === "granted";
        }
        stored.set(`alarm_mw_${name}`, box.checked ? "1" : "0");
        if (name === "sound" && box.checked) beep();
      });
    }
    $("#keys").addEventListener("click", () => $("#help").showModal());
  }

  function beep() {
    const context = new AudioContext();
    const volume = context.createGain();
    volume.connect(context.destination);
    volume.gain.setValueAtTime(0.12, context.currentTime);
    volume.gain.exponentialRampToValueAtTime(0.001, context.currentTime + 0.5);
    for (const [frequency, at] of [[660, 0], [880, 0.12]]) {
      const tone = context.createOscillator();
      tone.frequency.value = frequency;
      tone.connect(volume);
      tone.start(context.currentTime + at);
      tone.stop(context.currentTime + 0.5);
    }
    setTimeout(() => context.close(), 1000);
  }

  function announce(rows) {
    if (!rows.length) return;
    if ($("#sound")?.checked) beep();
    if ($("#notify")?.checked && document.hidden && Notification.permission === "granted") {
      const first = rows[0].querySelector(".what a").textContent;
      const note = new Notification(rows.length > 1 ? `${rows.length} new incidents` : "New incident", { body: first, tag: "alarm_mw" });
      note.onclick = () => { window.focus(); note.close(); };
    }
  }

  // The list merges what the server sends. Cells change in place. Rows come, go and change their order only while
  // nobody is at the list; until then a button says what is new.

  const IDLE = 4000;
  let touched = -IDLE;
  let latest = null;
  const live = $("#live[data-merge]");
  const list = () => $("ol.incidents", live);
  const isBusy = () => performance.now() - touched < IDLE || Boolean(live.querySelector(":focus-visible"));

  function part(root, name) { return $(`[data-part="${name}"]`, root); }

  function updateCells(row, fresh) {
    if (row.className !== fresh.className) row.className = fresh.className;
    row.dataset.acked = fresh.dataset.acked;
    for (const cell of $$("[data-cell]", fresh)) {
      const old = $(`[data-cell="${cell.dataset.cell}"]`, row);
      if (old.innerHTML !== cell.innerHTML && comparable(old) !== comparable(cell)) old.innerHTML = cell.innerHTML;
      else if (cell.dataset.cell === "more") {
        $$("time", old).forEach((time, n) => { time.dateTime = $$("time", cell)[n].dateTime; });
      }
    }
  }

  /** Return what a cell says, without times, which tick by themselves. */
  function comparable(cell) {
    const copy = cell.cloneNode(true);
    for (const time of $$("time", copy)) time.remove();
    return copy.innerHTML;
  }

  function merge(fresh) {
    latest = fresh;
    const headline = part(fresh, "list").dataset.headline;
    if ($("#headline").textContent !== headline) $("#headline").textContent = headline;
    const freshRows = $$("li[data-id]", fresh);
    const known = new Map($$("li[data-id]", live).map((row) => [row.id, row]));
    const added = freshRows.filter((row) => !known.has(row.id));
    const kept = new Set(freshRows.map((row) => row.id));
    for (const row of freshRows) if (known.has(row.id)) updateCells(known.get(row.id), row);
    for (const [id, row] of known) if (!kept.has(id)) leave(row);
    announce(added.filter((row) => !row.dataset.announced));
    const shown = $$("li[data-id]:not(.gone)", live).map((row) => row.id);
    const isSameOrder = shown.join() === freshRows.map((row) => row.id).join() && !$("li.gone", live);
    if (!isSameOrder && known.size && isBusy()) {
      offer(added.length);
      replaceRest(fresh);
      return;
    }
    settle();
  }

  function leave(row) {
    row.classList.add("gone");
    const actions = $('[data-cell="do"]', row);
    if (actions.textContent !== "over") actions.textContent = "over";
  }

  function replaceRest(fresh) {
    const rest = part(live, "rest");
    if (rest.innerHTML !== part(fresh, "rest").innerHTML) rest.innerHTML = part(fresh, "rest").innerHTML;
  }

  /** Replace what stands above the list; return whether that was possible without moving what somebody points at. */
  function replaceTop(fresh) {
    const [old, next] = [part(live, "top"), part(fresh, "top")];
    if (old.innerHTML === next.innerHTML) return true;
    if (old.children.length !== next.children.length && isBusy()) return false;
    old.innerHTML = next.innerHTML;
    return true;
  }

  function offer(n) {
    const news = $("#news");
    const text = n ? `${n} new` : "The list has changed";
    if (news.textContent.trim() === text) return;
    news.innerHTML = '<button class="primary" type="button"></button>';
    news.firstChild.textContent = text;
    news.firstChild.addEventListener("click", () => { touched = -IDLE; settle(); scrollTo({ top: 0 }); });
  }

  /** Show the latest list whole, with the rows that stay kept as they are. */
  function settle() {
    if (!latest) return;
    $("#news").textContent = "";
    const isTopDone = replaceTop(latest);
    replaceRest(latest);
    const freshPart = part(latest, "list");
    const fresh = $("ol.incidents", freshPart);
    if (!fresh || !list()) {
      if (part(live, "list").innerHTML !== freshPart.innerHTML) part(live, "list").innerHTML = freshPart.innerHTML;
    } else {
      const known = new Map($$("li[data-id]", live).map((row) => [row.id, row]));
      const wanted = $$("li[data-id]", fresh).map((row) => {
        const old = known.get(row.id);
        if (!old || old.classList.contains("gone")) return row.cloneNode(true);
        return old;
      });
      const now = [...list().children];
      if (now.length !== wanted.length || now.some((row, n) => row !== wanted[n])) list().replaceChildren(...wanted);
    }
    if (isTopDone) latest = null;
    tick();
    select(selected(), false);
  }

  if (live) {
    for (const kind of ["pointermove", "pointerdown", "wheel", "touchstart"]) {
      live.addEventListener(kind, () => { touched = performance.now(); }, { passive: true });
    }
    document.addEventListener("keydown", () => { touched = performance.now(); });
    setInterval(() => { if (latest && !isBusy()) settle(); }, 500);
  }

  // At most one request is under way. The busier the page is, the longer it waits for the next one.

  const PAUSE = 700;
  let isFetching = false;
  let isDue = false;

  async function update() {
    isDue = true;
    if (isFetching) return;
    isFetching = true;
    while (isDue) {
      isDue = false;
      let took = 0;
      try {
        const response = await fetch(live.dataset.merge, { headers: { "HX-Request": "true" } });
        if (response.redirected) location.reload(); // to the login: the session has ended
        const text = await response.text();
        const began = performance.now();
        if (response.ok) {
          const parsed = new DOMParser().parseFromString(text, "text/html").body;
          if (part(parsed, "list")) merge(parsed);
        }
        took = performance.now() - began;
      } catch { /* the stream shows when the server is back */ }
      await new Promise((resolve) => { setTimeout(resolve, Math.max(PAUSE, took * 8)); });
    }
    isFetching = false;
  }

  // Other pages load the part that has changed, unless somebody is at a form in it.

  document.body.addEventListener("htmx:beforeSwap", (event) => {
    const target = event.detail.target;
    if (target?.hasAttribute("data-fresh") && target.querySelector(":focus, input:checked, dialog[open]")) event.detail.shouldSwap = false;
  });
  document.body.addEventListener("htmx:afterSwap", tick);

  // Events.

  let isOnline = true;
  htmx.createEventSource = (url) => {
    const source = new EventSource(url);
    source.addEventListener("changed", (event) => {
      const { open, delivery } = JSON.parse(event.data);
      showOpen(open, !delivery[0]);
      showBadge("delivery", ...delivery);
      if (live) update();
    });
    source.addEventListener("reload", () => location.reload());
    return source;
  };
  document.body.addEventListener("htmx:sseOpen", () => {
    if (!isOnline) refresh();
    isOnline = true;
    $("#offline").hidden = true;
  });
  document.body.addEventListener("htmx:sseError", () => {
    if (!isOnline) return;
    isOnline = false;
    $("#offline-since").textContent = new Date().toLocaleTimeString();
    setTimeout(() => { $("#offline").hidden = isOnline; }, 3000);
  });
  document.body.addEventListener("htmx:responseError", (event) => {
    const status = event.detail.xhr.status;
    if (status === 401) location.reload();
    else if (status !== 503) toast(`That did not work (HTTP ${status}).`);
  });

  function refresh() {
    if (live) update();
    for (const each of $$("[data-fresh]")) htmx.trigger(each, "refresh");
  }

  // Actions.

  function toast(text, label, action) {
    $(".toast")?.remove();
    const box = document.createElement("div");
    box.className = "toast";
    box.setAttribute("role", "status");
    const message = document.createElement("span");
    message.textContent = text;
    box.append(message);
    if (action) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = label;
      button.addEventListener("click", () => { box.remove(); action(); });
      box.append(button);
    }
    document.body.append(box);
    setTimeout(() => box.remove(), 6000);
  }

  const DONE = { ack: "Acknowledged.", unack: "Given back.", resolve: "Resolved." };

  async function post(url, verb) {
    const form = $("#act");
    const response = await fetch(url, {
      method: "POST",
      headers: { "HX-Request": "true", "X-CSRF-Token": new FormData(form).get("csrf"), "Content-Type": "application/x-www-form-urlencoded" },
      body: "",
      redirect: "manual",
    });
    if (!response.ok) {
      toast(response.status === 409 ? "The incident is not open any more." : `That did not work (HTTP ${response.status}).`);
    } else if (verb === "ack") {
      toast(DONE[verb], "Undo", () => post(url.replace(/ack$/, "unack"), "unack"));
    } else {
      toast(DONE[verb] || "Done.");
    }
    refresh();
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-do][formaction]");
    if (!button) return;
    event.preventDefault();
    const verb = button.dataset.do;
    if (verb === "resolve" && !(await confirmed("Resolve it?"))) return;
    post(button.getAttribute("formaction"), verb);
  });

  // Without a clipboard, as on a page without TLS, the link shows the Markdown.

  $("#copy")?.addEventListener("click", async (event) => {
    if (!navigator.clipboard) return;
    event.preventDefault();
    const response = await fetch(event.target.href);
    await navigator.clipboard.writeText(await response.text());
    toast("Copied.");
  });

  function confirmed(question) {
    const dialog = $("#confirm");
    $("#confirm-text").textContent = question;
    dialog.showModal();
    return new Promise((resolve) => {
      const asked = new AbortController(); // "close" comes late: the next question may be open by then
      const answer = (isYes) => { asked.abort(); resolve(isYes); };
      $("form", dialog).addEventListener("submit", (event) => answer(event.submitter?.value === "yes"), { signal: asked.signal });
      dialog.addEventListener("cancel", () => answer(false), { signal: asked.signal });
    });
  }

  // Keys.

  const rows = () => $$("li[data-id]", live || document);
  let current = null;
  const selected = () => rows().find((row) => row.dataset.id === current);

  function select(row, doesScroll = true) {
    for (const each of rows()) each.toggleAttribute("data-selected", each === row);
    current = row ? row.dataset.id : current;
    if (row && doesScroll) row.scrollIntoView({ block: "nearest" });
  }

  function move(step) {
    const all = rows();
    if (!all.length) return;
    const at = all.indexOf(selected());
    select(all[at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + step, 0), all.length - 1)]);
  }

  /** Return the incident that keys are about: the selected row, or the page's own. */
  const subject = () => selected() || $("[data-incident]");

  const KEYS = {
    j: () => move(1),
    k: () => move(-1),
    "/": () => { const field = $('input[type="search"]'); if (field) field.focus(); },
    "?": () => $("#help").showModal(),
    Enter: () => { const link = selected()?.querySelector(".what a"); if (link) link.click(); },
    a: () => press("ack") || press("unack"),
    s: () => press("silence"),
    r: () => press("resolve"),
  };

  function press(verb) {
    const at = subject();
    const button = at?.querySelector(`[data-do="${verb}"]`);
    if (button) button.click();
    else if (verb === "resolve" && at?.querySelector("[data-do]")) resolve(at.dataset.id);
    return Boolean(button);
  }

  async function resolve(id) {
    if (await confirmed("Resolve it?")) post(`/i/${id}/resolve`, "resolve");
  }

  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input, textarea, select, [contenteditable], dialog[open]");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && event.target.matches("input[type=search]")) event.target.blur();
    if (isTyping || (event.key === "Enter" && event.target !== document.body)) return;
    const action = Object.hasOwn(KEYS, event.key) ? KEYS[event.key] : null;
    if (action) {
      event.preventDefault();
      action();
    }
  });
})();
