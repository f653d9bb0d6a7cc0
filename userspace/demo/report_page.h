// The page around the report's charts: its own style, layout and the crosshair's script. A fmt format string, so braces
// are doubled.
#pragma once

namespace adapath::demo {

inline constexpr const char* report_page = R"page(<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}.dot.trained {{ background: var(--trained); }} .dot.parameter {{ background: var(--parameter); }}
.dot.network {{ background: var(--network); }} .dot.bad {{ background: var(--bad); }} .dot.rollback {{ background: var(--rollback); }}
.capacity-key::before {{ background: var(--capacity); height: 11px; }} .delivered-key::before {{ background: var(--delivered); }}
.rtt-key::before {{ background: var(--rtt); }} .delay-key::before {{ background: var(--delay); }}
.reward-key::before {{ background: var(--reward); opacity: .55; height: 2px; }} .generation-key::before {{ background: var(--ink); height: 5px; }}
.phase {{ fill: var(--shade); }} .phase-name {{ fill: var(--ink); }}
.capacity {{ fill: var(--capacity); }}
.delivered, .rtt, .delay, .reward {{ fill: none; stroke-width: 1.8; stroke-linejoin: round; }}
.delivered {{ stroke: var(--delivered); }} .rtt {{ stroke: var(--rtt); }} .delay {{ stroke: var(--delay); }}
.reward {{ stroke: var(--reward); stroke-width: 1.3; opacity: .6; }}
.rtt-fill {{ fill: var(--rtt); opacity: .2; }} .delay-fill {{ fill: var(--delay); opacity: .2; }}
.band {{ opacity: .13; }} .band.parameter {{ fill: var(--parameter); }} .band.bad {{ fill: var(--bad); }}
.mark line {{ stroke: var(--first); stroke-width: 1.4; stroke-dasharray: 4 3; }} .mark path {{ fill: var(--first); }}
.mark.trained line {{ stroke: var(--trained); }} .mark.trained path {{ fill: var(--trained); }}
.mark.parameter line {{ stroke: var(--parameter); }} .mark.parameter path {{ fill: var(--parameter); }}
.mark.network line {{ stroke: var(--network); }} .mark.network path {{ fill: var(--network); }}
.mark.bad line {{ stroke: var(--bad); }} .mark.bad path {{ fill: var(--bad); }}
.mark.rollback line {{ stroke: var(--rollback); }} .mark.rollback path {{ fill: var(--rollback); }}
.generation line {{ stroke: var(--first); stroke-width: 4; stroke-linecap: butt; }}
.generation.trained line {{ stroke: var(--trained); }} .generation.parameter line {{ stroke: var(--parameter); }}
.generation.network line {{ stroke: var(--network); }} .generation.bad line {{ stroke: var(--bad); }}
.generation.rollback line {{ stroke: var(--rollback); }}
.choice.main, .choice-main {{ fill: var(--delivered); background: var(--delivered); }} .choice.sub, .choice-sub {{ fill: var(--capacity); background: var(--capacity); }}
.choice.both, .choice-both {{ fill: var(--trained); background: var(--trained); }} .choice.none, .choice-none {{ fill: var(--bad); background: var(--bad); opacity: .55; }}
.frames {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 12px; }} .frames img {{ width: 100%; border-radius: 6px; display: block; }}
.frame figcaption {{ color: var(--muted); }}
.switches td:first-child, .switches td:nth-child(2), .switches td:nth-child(3), .switches td:nth-child(4) {{ white-space: nowrap; }}
</style>
<main>
<header>
<h1><span class="product">Adapath ·</span> {headline}{verdict}</h1>
<p class="facts">{facts}</p>
</header>
<section class="cards">{cards}</section>
<section class="panel" id="charts">
{legend}
{charts}
<div id="tip"></div>
</section>
<h2>Criteria</h2>
<section class="panel"><ul class="verdicts">{verdicts}</ul></section>
<h2>Figures</h2>
<section class="panel scroll"><table>{figures}</table></section>
<h2>Switches</h2>
<section class="panel scroll"><table class="switches"><tr><th>time</th><th>kind</th><th>generation</th><th>the flip</th><th>reason</th></tr>{switches}</table></section>
{sections}
<footer>Made by adapath-demo. All figures are of this run on this machine; summary.json beside this file holds them all.</footer>
</main>
<script>
(() => {{
  const d = {data}, panel = document.getElementById('charts'), tip = document.getElementById('tip');
  const charts = [...panel.querySelectorAll('svg.chart[id]')];
  const at = (points, t) => {{
    let best = null, gap = 1.5;
    for (const p of points) {{ const g = Math.abs(p[0] - t); if (g < gap) {{ gap = g; best = p; }} }}
    return best;
  }};
  const hide = () => {{ tip.style.opacity = 0; charts.forEach(c => c.querySelector('.cross').style.opacity = 0); }};
  panel.addEventListener('mouseleave', hide);
  charts.forEach(chart => chart.addEventListener('mousemove', e => {{
    const box = chart.getBoundingClientRect(), x = (e.clientX - box.left) / box.width * chart.viewBox.baseVal.width;
    if (x < d.left || x > d.right) return hide();
    const t = (x - d.left) / (d.right - d.left) * d.duration;
    charts.forEach(c => {{ const l = c.querySelector('.cross'); l.setAttribute('x1', x); l.setAttribute('x2', x); l.style.opacity = .5; }});
    const rows = [t.toFixed(1) + ' s'];
    for (const [name, [a, b, unit, na, nb]] of Object.entries(d.series)) {{
      const p = at(a, t), q = at(b, t);
      if (p) rows.push(name + ': ' + na + ' ' + p[1] + (q ? ', ' + nb + ' ' + q[1] : '') + ' ' + unit);
    }}
    tip.innerHTML = rows.join('<br>');
    const outer = panel.getBoundingClientRect(), px = e.clientX - outer.left;
    tip.style.left = (px > outer.width / 2 ? px - tip.offsetWidth - 14 : px + 14) + 'px';
    tip.style.top = (e.clientY - outer.top + 12) + 'px';
    tip.style.opacity = .95;
  }}));
}})();
</script>
</html>
)page";

}  // namespace adapath::demo
