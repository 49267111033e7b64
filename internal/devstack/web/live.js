// Keeps the page fresh: once a second it fetches itself and takes over the new content. The server has escaped all text, and no markup is made
// from strings here. Without script the page reloads itself every two seconds.
"use strict";
(() => {
  const interval = 1000;
  const live = document.getElementById("live");
  const label = document.createElement("span");
  const pause = document.createElement("button");
  let paused = false;
  let fresh = Date.now();

  pause.type = "button";
  live.replaceChildren(label, pause);

  // What the reader is doing must not be pulled away: text being selected, a link or button with the focus.
  const busy = () => {
    const main = document.querySelector("main");
    const selection = document.getSelection();
    const selecting = selection && !selection.isCollapsed && main.contains(selection.anchorNode);
    return selecting || (main !== document.activeElement && main.contains(document.activeElement));
  };

  const show = () => {
    const seconds = Math.round((Date.now() - fresh) / 1000);
    const lost = !paused && seconds > 3;
    live.classList.toggle("lost", lost);
    label.textContent = paused ? "Paused" : lost ? `No answer for ${seconds} s` : busy() ? "Held while you read" : "Live";
    pause.textContent = paused ? "Resume" : "Pause";
  };

  const refresh = async () => {
    if (paused || document.hidden || busy()) {
      return;
    }
    const response = await fetch(location.href, { signal: AbortSignal.timeout(5000) });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const main = document.querySelector("main");
    const next = page.querySelector("main");
    if (!next || busy()) {
      return;
    }
    fresh = Date.now();
    if (next.innerHTML !== main.innerHTML) {
      main.replaceChildren(...document.adoptNode(next).childNodes);
    }
  };

  const loop = async () => {
    try {
      await refresh();
    } catch {
      // The server is gone or restarting: the label says for how long.
    }
    if (paused || document.hidden || busy()) {
      fresh = Date.now();
    }
    show();
    setTimeout(loop, interval);
  };

  pause.addEventListener("click", () => {
    paused = !paused;
    fresh = Date.now();
    show();
  });
  show();
  setTimeout(loop, interval);
})();
