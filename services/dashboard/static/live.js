// Keeps the page up to date: pieces of HTML come by server-sent events and are put in place so that
// focus, typed text and open parts stay. Without news for a while the page says so.
(() => {
  "use strict";

  const SILENT_MS = 4000; // samples come every second
  const RETRY_MS = 2000;
  const fresh = document.getElementById("fresh");
  const age = document.getElementById("age");
  const announce = document.getElementById("announce");
  const arrivals = document.getElementById("inbox-new");
  let heard = Date.now();
  let lost = false;
  let state = "";
  let source = null;

  const key = (node) => (node.nodeType === 1 ? node.id || node.dataset.key || "" : "");

  function morph(have, want) {
    if (have.nodeType !== want.nodeType || have.nodeName !== want.nodeName) {
      have.replaceWith(want);
    } else if (have.nodeType === 3) {
      if (have.data !== want.data) have.data = want.data;
    } else if (have.nodeType === 1) {
      for (const { name } of [...have.attributes]) {
        if (!want.hasAttribute(name) && name !== "aria-current" && name !== "open") have.removeAttribute(name);
      }
      for (const { name, value } of want.attributes) {
        if (have.getAttribute(name) !== value) have.setAttribute(name, value);
      }
      if (have.nodeName !== "TEXTAREA") children(have, want); // what a person typed is theirs
    }
  }

  function children(have, want) {
    let at = have.firstChild;
    for (const next of [...want.childNodes]) {
      const wanted = key(next);
      let found = null;
      if (wanted) {
        for (let n = at; n && !found; n = n.nextSibling) if (key(n) === wanted) found = n;
      } else if (at && !key(at)) {
        found = at;
      }
      if (!found) {
        have.insertBefore(next, at);
      } else {
        const after = found === at ? at.nextSibling : at;
        if (found !== at) have.insertBefore(found, at);
        morph(found, next);
        at = after;
      }
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  }

  function mark() {
    for (const nav of document.querySelectorAll("nav[data-page]")) {
      for (const a of nav.querySelectorAll("[data-nav]")) {
        if (a.dataset.nav === nav.dataset.page) a.setAttribute("aria-current", "page");
        else a.removeAttribute("aria-current");
      }
    }
  }

  function show(news) {
    for (const place of document.querySelectorAll("[data-live]")) {
      const html = news.html[place.dataset.live];
      if (html === undefined) continue;
      const made = document.createElement("template");
      made.innerHTML = html;
      children(place, made.content);
    }
    mark();
    if (news.html.announce !== undefined) say(news.html.announce.trim());
    if (arrivals && news.captured !== null) {
      const more = news.captured - Number(arrivals.dataset.total);
      arrivals.hidden = more <= 0;
      arrivals.querySelector("span").textContent = more;
    }
  }

  function say(text) {
    // the first state is on the page already; only changes are worth interrupting somebody
    if (state && text !== state) announce.textContent = text;
    state = text;
  }

  function tick() {
    const silent = Date.now() - heard;
    const seconds = Math.round(silent / 1000);
    if (silent > SILENT_MS !== lost) {
      lost = !lost;
      fresh.classList.toggle("lost", lost);
      document.body.classList.toggle("stale", lost);
      announce.textContent = lost ? "Connection lost. The page is not up to date." : "Connected again.";
    }
    if (lost) age.textContent = `Connection lost: last update ${span(seconds)} ago`;
    else age.textContent = seconds < 2 ? "Updated just now" : `Updated ${seconds} s ago`;
    if (lost && source && source.readyState === EventSource.CLOSED) connect();
  }

  const span = (s) => (s < 120 ? `${s} s` : s < 7200 ? `${Math.floor(s / 60)} min` : `${Math.floor(s / 3600)} h`);

  function connect() {
    if (source) source.close();
    source = new EventSource("/events");
    source.addEventListener("sample", (event) => {
      heard = Date.now();
      show(JSON.parse(event.data));
      tick();
    });
    source.addEventListener("error", () => {
      // the browser tries again by itself unless it was refused
      if (source.readyState === EventSource.CLOSED) setTimeout(() => document.hidden || connect(), RETRY_MS);
    });
  }

  // a page nobody sees holds no connection: browsers allow few to one host
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      source.close();
      source = null;
    } else if (!source) {
      connect();
    }
  });
  addEventListener("pagehide", () => source && source.close());
  addEventListener("pageshow", (event) => event.persisted && connect());

  mark();
  setInterval(tick, 500);
  if (!document.hidden) connect();
})();
