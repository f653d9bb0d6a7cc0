// The arena's own part of its page: colours of the policies, layout, the choice of a cell. A fmt format string, so
// braces are doubled.
#pragma once

namespace adapath::arena {

inline constexpr const char* report_page = R"page(<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}
:root {{ --cubic: #c96a12; --bbr: #7a3fc4; --adapath: #1d5fd1; --adapath-online: #0b8a72; --userspace: #c2315f; --other: #6b7480; --bound: #1b2026; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --cubic: #f0a04b; --bbr: #b78cf0; --adapath: #6ea8ff; --adapath-online: #45c7a5; --userspace: #f0769c; --other: #97a2ae; --bound: #e7ebef; }}
}}
.cubic {{ --c: var(--cubic); }} .bbr {{ --c: var(--bbr); }} .adapath {{ --c: var(--adapath); }}
.adapath-online {{ --c: var(--adapath-online); }} .userspace {{ --c: var(--userspace); }} .other {{ --c: var(--other); }}
.dot {{ background: var(--c); }}
.capacity {{ fill: var(--capacity); }} .capacity-line {{ fill: none; stroke: var(--muted); stroke-width: 1; stroke-dasharray: 4 3; }}
path.line {{ fill: none; stroke: var(--c); stroke-width: 1.7; stroke-linejoin: round; }}
path.second {{ stroke-dasharray: 5 3; }}
circle.point {{ fill: var(--c); stroke: var(--panel); stroke-width: 1.5; }} circle.seed {{ fill: var(--c); opacity: .35; }}
.bound-mark {{ fill: none; stroke: var(--bound); stroke-width: 1.6; }}
.bound-line {{ stroke: var(--muted); stroke-width: 1; stroke-dasharray: 2 3; }}
.name-on-chart {{ font-size: 11.5px; font-weight: 600; fill: var(--c); paint-order: stroke; stroke: var(--panel); stroke-width: 3px; }}
.many {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: 6px 18px; }}
.many figcaption b {{ overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }}
td.n, th.n {{ text-align: right; padding-right: 14px; white-space: nowrap; }} td.p {{ white-space: nowrap; }}
.scroll table {{ font-size: 13.5px; }} table + table {{ margin-top: 18px; }}
tr.group td, tr.group th {{ border-top: 2px solid var(--line); }}
.met {{ color: var(--trained); font-weight: 650; }} .missed {{ color: var(--bad); font-weight: 650; }} .unmeasured {{ color: var(--muted); }}
select {{ font: inherit; font-size: 13.5px; padding: 3px 8px; border-radius: 6px; border: 1px solid var(--line); background: var(--page); color: var(--ink); margin-bottom: 8px; }}
ul.notes {{ color: var(--muted); font-size: 13px; margin: 8px 0 0; padding-left: 18px; }}
</style>
<main>
<header>
<h1><span class="product">Adapath ·</span> Congestion control side by side{verdict}</h1>
<p class="facts">{facts}</p>
</header>
{sections}
<footer>Made by adapath-arena. All figures are of these runs on this machine; results.jsonl beside this file holds them all, summary.json what they come to.</footer>
</main>
<script>
(() => {{
  const choice = document.getElementById('cell');
  if (!choice) return;
  const cells = [...document.querySelectorAll('.cell')];
  const show = () => cells.forEach((cell, i) => cell.hidden = i !== choice.selectedIndex);
  choice.hidden = false;
  choice.addEventListener('change', show);
  show();
}})();
</script>
</html>
)page";

}  // namespace adapath::arena
