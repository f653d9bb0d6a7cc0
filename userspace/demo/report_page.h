// The page around the report's charts: style, layout and the crosshair's script. A fmt format string, so braces are
// doubled.
#pragma once

namespace adapath::demo {

inline constexpr const char* report_page = R"page(<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{
  color-scheme: light dark;
  --page: #f6f7f8; --panel: #ffffff; --ink: #1b2026; --muted: #66707c; --line: #e4e7eb; --shade: #eef1f4;
  --capacity: #d5dee9; --delivered: #1d5fd1; --rtt: #7a3fc4; --delay: #0b7a72; --reward: #a8761a;
  --first: #47515d; --parameter: #4a8fd8; --network: #a13fc9; --trained: #1c9a48; --bad: #d02a2a; --rollback: #e07a10;
}}
@media (prefers-color-scheme: dark) {{
  :root {{
    --page: #12161b; --panel: #1a2027; --ink: #e7ebef; --muted: #97a2ae; --line: #2b333c; --shade: #242c35;
    --capacity: #33414f; --delivered: #6ea8ff; --rtt: #b78cf0; --delay: #45c7ba; --reward: #d9ab4e;
    --first: #b3bdc8; --parameter: #5fa3ea; --network: #c77be6; --trained: #4cc779; --bad: #f06464; --rollback: #f3a04b;
  }}
}}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Liberation Sans", "DejaVu Sans", sans-serif; }}
main {{ max-width: 1120px; margin: 0 auto; padding: 28px 20px 60px; }}
header {{ margin-bottom: 18px; }}
h1 {{ font-size: 26px; line-height: 1.2; margin: 0 0 6px; font-weight: 650; letter-spacing: -.01em; }}
h2 {{ font-size: 17px; margin: 30px 0 10px; font-weight: 650; }}
.product {{ color: var(--muted); font-weight: 500; }}
.facts {{ color: var(--muted); font-size: 13.5px; margin: 0; }}
.facts b {{ font-weight: 500; color: var(--muted); }}
.verdict {{ display: inline-block; font-size: 13px; font-weight: 600; padding: 3px 10px; border-radius: 20px; color: #fff;
  vertical-align: 4px; margin-left: 10px; letter-spacing: 0; }}
.verdict.good {{ background: #1a8741; }} .verdict.wrong {{ background: #c62828; }}
.cards {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(158px, 1fr)); gap: 12px; margin: 18px 0; }}
.card {{ background: var(--panel); border: 1px solid var(--line); border-radius: 10px; padding: 13px 15px; border-top: 3px solid var(--line); }}
.card.good {{ border-top-color: var(--trained); }} .card.wrong {{ border-top-color: var(--bad); }}
.card.wrong .value {{ color: var(--bad); }}
.value {{ font-size: 25px; font-weight: 650; line-height: 1.15; font-variant-numeric: tabular-nums; }}
.name {{ font-weight: 550; font-size: 14px; }}
.note {{ color: var(--muted); font-size: 12.5px; line-height: 1.35; margin-top: 2px; }}
.panel {{ background: var(--panel); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px 6px; position: relative; }}
.legend {{ display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; color: var(--muted); margin: 0 0 8px 2px; }}
.dot {{ display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 6px; background: var(--first); }}
.dot.trained {{ background: var(--trained); }} .dot.parameter {{ background: var(--parameter); }}
.dot.network {{ background: var(--network); }} .dot.bad {{ background: var(--bad); }} .dot.rollback {{ background: var(--rollback); }}
figure {{ margin: 0 0 8px; }}
figcaption {{ font-size: 13.5px; margin: 8px 2px 2px; display: flex; flex-wrap: wrap; gap: 2px 16px; align-items: baseline; }}
figcaption b {{ font-weight: 620; }}
.key {{ color: var(--muted); font-size: 12.5px; }}
.key::before {{ content: ""; display: inline-block; width: 16px; height: 3px; border-radius: 2px; margin-right: 6px; vertical-align: middle; background: var(--muted); }}
.capacity-key::before {{ background: var(--capacity); height: 11px; }} .delivered-key::before {{ background: var(--delivered); }}
.rtt-key::before {{ background: var(--rtt); }} .delay-key::before {{ background: var(--delay); }}
.reward-key::before {{ background: var(--reward); opacity: .55; height: 2px; }} .generation-key::before {{ background: var(--ink); height: 5px; }}
.hint {{ color: var(--muted); font-size: 12.5px; margin: 0 2px 6px; }}
.chart {{ display: block; width: 100%; height: auto; overflow: visible; }}
.grid {{ stroke: var(--line); stroke-width: 1; }} .axis {{ stroke: var(--muted); stroke-width: 1; }}
.tick, .label, .phase-name, .on-chart {{ font-size: 11px; fill: var(--muted); font-variant-numeric: tabular-nums; }}
.on-chart {{ fill: var(--ink); font-weight: 550; paint-order: stroke; stroke: var(--panel); stroke-width: 3px; }}
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
.cross {{ stroke: var(--ink); stroke-width: 1; opacity: 0; pointer-events: none; }}
#tip {{ position: absolute; pointer-events: none; background: var(--ink); color: var(--page); font-size: 12px; line-height: 1.45; padding: 6px 9px;
  border-radius: 6px; opacity: 0; white-space: nowrap; font-variant-numeric: tabular-nums; z-index: 2; }}
table {{ border-collapse: collapse; width: 100%; font-size: 14px; }}
th, td {{ text-align: left; padding: 6px 10px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; font-variant-numeric: tabular-nums; }}
th {{ font-weight: 550; white-space: nowrap; color: var(--muted); }}
tr:last-child th, tr:last-child td {{ border-bottom: 0; }}
.switches td:first-child, .switches td:nth-child(2), .switches td:nth-child(3), .switches td:nth-child(4) {{ white-space: nowrap; }}
.verdicts {{ list-style: none; margin: 0; padding: 4px 0; font-size: 14px; }}
.verdicts li {{ padding: 5px 0 5px 26px; position: relative; }}
.verdicts li::before {{ position: absolute; left: 2px; font-weight: 700; }}
.verdicts .good::before {{ content: "✓"; color: var(--trained); }} .verdicts .wrong::before {{ content: "✗"; color: var(--bad); }}
.verdicts b {{ font-weight: 600; margin-right: 6px; }}
.scroll {{ overflow-x: auto; }}
footer {{ color: var(--muted); font-size: 12.5px; margin-top: 26px; }}
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
