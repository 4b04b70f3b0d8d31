// Fills the live page: texts, the motion of the loop, the curves and the two streams, from one sample at a time.
// Nothing here writes HTML: what comes from events and records is set as text.
window.millstream = (() => {
  const RECENT_MS = 120000;
  let curves = null; // per chart: element id and the values of a sample; per chart and curve: the points
  const count = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
  const fine = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
  const known = (value) => value !== undefined && value !== null;
  const rate = (value) => (known(value) ? (value < 10 ? fine : count).format(value) + "/s" : "–");
  const whole = (value) => (known(value) ? count.format(value) : "–");
  const ms = (value) => {
    if (!known(value)) return "–";
    return value < 1000 ? count.format(value) + " ms" : fine.format(value / 1000) + " s";
  };
  const share = (value) => (known(value) ? (100 * value).toFixed(1) + " %" : "–");
  const clipped = (text) => (text.length > 22 ? text.slice(0, 21) + "…" : text);
  const short = (name) => (name.length > 18 ? "…" + name.slice(-10) : name);

  function span(seconds) {
    if (!known(seconds)) return "–";
    for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]])
      if (seconds >= 2 * size) return Math.round(seconds / size) + " " + unit;
    return Math.round(seconds) + " s";
  }

  function ahead(s) {
    if (!known(s.recall)) return "It takes a list, and then what its user finds without one.";
    if (s.scored < 100) return `It is early: ${whole(s.scored)} events could be scored so far.`;
    const by = Math.abs(100 * (s.recall / s.trending - 1)).toFixed(0);
    const how = !s.trending || s.recall === s.trending ? "level with" : s.recall > s.trending ? `${by} % ahead of` : `${by} % behind`;
    return `Now ${how} trending, on ${whole(Math.min(s.scored, 2000))} events.`;
  }

  function words(s) {
    const fresh = s.freshness || [];
    const totals = s.totals || {};
    return {
      events: rate(s.events), lists: rate(s.lists), dead: rate(s.dead), lag: whole(s.lag) + " behind",
      back: `${rate(s.lists).replace("/s", " lists/s")} · ${ms(fresh[0])} after their event`,
      items: whole(s.items) + " items", logged: whole(s.logged) + " logged",
      age: known(s.model_age_s) ? span(s.model_age_s) + " old" : "no model yet", training: known(s.training) ? share(s.training) : "idle",
      people: rate(s.events).replace("/s", " events/s"), ingest: whole(totals.applied || 0) + " applied",
      state: whole(s.items) + " items", refresh: rate(s.lists).replace("/s", " lists/s"),
      letters: whole(totals.dead_letters || 0) + " kept",
      trainer: known(s.training) ? clipped(s.trainer || "begins") : s.trainer ? `next at ${whole(s.due)}` : "none runs",
      model: short(s.model), p50: ms(fresh[0]), tails: known(fresh[1]) ? `p99 ${ms(fresh[2])}` : "no list yet",
      behind: whole(s.lag), workers: s.workers === 1 ? "1 worker" : `${whole(s.workers)} workers`,
      total: whole(totals.applied || 0) + " in all", deaths: whole(totals.dead_letters || 0) + " dead letters",
      modelage: span(s.model_age_s), index: known(s.index_recall) ? `index recall ${(100 * s.index_recall).toFixed(0)} %` : "no index yet",
      recall: share(s.recall), gain: known(s.recall) ? `trending ${share(s.trending)}` : "none scored yet", ahead: ahead(s),
      step: known(s.training) ? share(s.training) : s.trainer ? "waiting" : "none runs",
      next: known(s.training) ? s.trainer || "training begins" : known(s.due) ? `${whole(s.logged)} of ${whole(s.due)}` : "",
    };
  }

  function say(values) {
    for (const element of document.querySelectorAll("[data-live]")) {
      const text = values[element.dataset.live];
      if (known(text) && element.textContent !== text) element.textContent = text;
    }
  }

  function flow(s) {
    const rates = { events: s.events, lists: s.lists, dead: s.dead, training: known(s.training) ? 5 : 0 };
    for (const path of document.querySelectorAll("[data-flow]")) {
      const speed = rates[path.dataset.flow] || 0;
      path.style.opacity = speed > 0.05 ? 1 : 0;
      const seconds = Math.round(4 / Math.max(Math.log2(2 + speed), 0.5) * 2) / 2; // in steps, so that it does not jerk
      path.style.animationDuration = Math.max(seconds, 0.5) + "s";
    }
  }

  function stream(name, lines) {
    const list = document.getElementById(name);
    if (!list) return;
    const rows = lines.slice().reverse().map((line) => {
      const row = document.createElement("li");
      const user = document.createElement("a");
      user.href = (window.path_prefix || "") + "/user?user=" + encodeURIComponent(line.user);
      user.textContent = line.user;
      const what = document.createElement("b");
      what.textContent = line.what;
      const title = document.createElement("span");
      title.textContent = line.title;
      row.append(user, what, title);
      return row;
    });
    if (rows.length) list.replaceChildren(...rows);
  }

  function draw(marks) {
    for (const chart of curves) {
      const element = getElement(chart.id);
      if (!element || !element.chart) continue; // not there yet: the next sample draws it
      const series = chart.curves.map((curve) => ({ data: curve.points }));
      if (chart.marks && series.length)
        series[0].markLine = { data: marks.map(([at, version]) => ({ xAxis: at, name: version })) };
      element.chart.setOption({ series }, { lazyUpdate: true });
    }
  }

  function add(s, recentOnly) {
    for (const chart of curves) {
      if (recentOnly !== undefined && chart.recent !== recentOnly) continue;
      for (const curve of chart.curves) {
        const value = curve.of.reduce((of, key) => (known(of) ? of[key] : of), s);
        if (!known(value)) continue;
        curve.points.push([s.at, +value.toFixed(4)]);
        if (chart.recent) while (curve.points[0][0] < s.at - RECENT_MS) curve.points.shift();
        else if (curve.points.length > 1500) curve.points = curve.points.filter((_, at) => at % 2);
      }
    }
  }

  return {
    // charts: [{id, recent, marks, of: [[key, …], …]}]; all: samples since the start, recent: the newest ones
    begin(charts, all, recent) {
      curves = charts.map((chart) => ({ ...chart, curves: chart.of.map((of) => ({ of, points: [] })) }));
      for (const s of all) add(s, false);
      for (const s of recent) add(s, true);
    },
    tick(told) {
      if (!curves) return;
      add(told.sample);
      say(words(told.sample));
      flow(told.sample);
      stream("ms-events", told.events);
      stream("ms-lists", told.lists);
      draw(told.marks);
    },
  };
})();
