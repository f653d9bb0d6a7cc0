// The page around the results of bench/video. A fmt format string, so braces are doubled.
#pragma once

namespace adapath::video_bench {

inline constexpr const char* report_page = R"page(<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Adapath: which video bytes deserve the uplink</title>
<style>
{style}
:root {{ --learned: #1d5fd1; --always-sub: #6b7480; --always-main: #c96a12; --fixed-mix: #7a3fc4; --threshold: #0b8a72; --other: #c2315f; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --learned: #6ea8ff; --always-sub: #97a2ae; --always-main: #f0a04b; --fixed-mix: #b78cf0; --threshold: #45c7a5; --other: #f0769c; }}
}}
.learned {{ --c: var(--learned); }} .always-sub {{ --c: var(--always-sub); }} .always-main {{ --c: var(--always-main); }}
.fixed-mix {{ --c: var(--fixed-mix); }} .threshold {{ --c: var(--threshold); }} .other {{ --c: var(--other); }}
.dot {{ background: var(--c); }}
.capacity {{ fill: var(--capacity); opacity: .55; }}
path.line {{ fill: none; stroke: var(--c); stroke-width: 1.6; stroke-linejoin: round; }} path.line.learned {{ stroke-width: 2.4; }}
td.n, th.n {{ text-align: right; padding-right: 14px; white-space: nowrap; }} td.p {{ white-space: nowrap; }}
.scroll table {{ font-size: 13.5px; }}
</style>
<main>
<header>
<h1><span class="product">Adapath ·</span> Which video bytes deserve the uplink{verdict}</h1>
<p class="facts">{facts}</p>
</header>
{sections}
<footer>Made by adapath-video-bench. All figures are of these runs on this machine; results.jsonl beside this file holds them all.</footer>
</main>
</html>
)page";

}  // namespace adapath::video_bench
