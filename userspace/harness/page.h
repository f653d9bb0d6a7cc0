// What our HTML reports look like: one self-contained page, light and dark. A chart's own colours are its report's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace adapath {

// Goes into the page's <style>, before what is the report's own.
inline constexpr const char* page_style = R"css(:root {
  color-scheme: light dark;
  --page: #f6f7f8; --panel: #ffffff; --ink: #1b2026; --muted: #66707c; --line: #e4e7eb; --shade: #eef1f4;
  --capacity: #d5dee9; --delivered: #1d5fd1; --rtt: #7a3fc4; --delay: #0b7a72; --reward: #a8761a;
  --first: #47515d; --parameter: #4a8fd8; --network: #a13fc9; --trained: #1c9a48; --bad: #d02a2a; --rollback: #e07a10;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161b; --panel: #1a2027; --ink: #e7ebef; --muted: #97a2ae; --line: #2b333c; --shade: #242c35;
    --capacity: #33414f; --delivered: #6ea8ff; --rtt: #b78cf0; --delay: #45c7ba; --reward: #d9ab4e;
    --first: #b3bdc8; --parameter: #5fa3ea; --network: #c77be6; --trained: #4cc779; --bad: #f06464; --rollback: #f3a04b;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Liberation Sans", "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 60px; }
header { margin-bottom: 18px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 6px; font-weight: 650; letter-spacing: -.01em; }
h2 { font-size: 17px; margin: 30px 0 10px; font-weight: 650; }
.product { color: var(--muted); font-weight: 500; }
.facts { color: var(--muted); font-size: 13.5px; margin: 0; }
.facts b { font-weight: 500; color: var(--muted); }
.verdict { display: inline-block; font-size: 13px; font-weight: 600; padding: 3px 10px; border-radius: 20px; color: #fff;
  vertical-align: 4px; margin-left: 10px; letter-spacing: 0; }
.verdict.good { background: #1a8741; } .verdict.wrong { background: #c62828; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(158px, 1fr)); gap: 12px; margin: 18px 0; }
.card { background: var(--panel); border: 1px solid var(--line); border-radius: 10px; padding: 13px 15px; border-top: 3px solid var(--line); }
.card.good { border-top-color: var(--trained); } .card.wrong { border-top-color: var(--bad); }
.card.wrong .value { color: var(--bad); }
.value { font-size: 25px; font-weight: 650; line-height: 1.15; font-variant-numeric: tabular-nums; }
.name { font-weight: 550; font-size: 14px; }
.note { color: var(--muted); font-size: 12.5px; line-height: 1.35; margin-top: 2px; }
.panel { background: var(--panel); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px 6px; position: relative; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; color: var(--muted); margin: 0 0 8px 2px; }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 6px; background: var(--first); }
figure { margin: 0 0 8px; }
figcaption { font-size: 13.5px; margin: 8px 2px 2px; display: flex; flex-wrap: wrap; gap: 2px 16px; align-items: baseline; }
figcaption b { font-weight: 620; }
.key { color: var(--muted); font-size: 12.5px; }
.key::before { content: ""; display: inline-block; width: 16px; height: 3px; border-radius: 2px; margin-right: 6px; vertical-align: middle; background: var(--muted); }
.hint { color: var(--muted); font-size: 12.5px; margin: 0 2px 6px; }
.chart { display: block; width: 100%; height: auto; overflow: visible; }
.grid { stroke: var(--line); stroke-width: 1; } .axis { stroke: var(--muted); stroke-width: 1; }
.tick, .label, .phase-name, .on-chart { font-size: 11px; fill: var(--muted); font-variant-numeric: tabular-nums; }
.on-chart { fill: var(--ink); font-weight: 550; paint-order: stroke; stroke: var(--panel); stroke-width: 3px; }
.cross { stroke: var(--ink); stroke-width: 1; opacity: 0; pointer-events: none; }
#tip { position: absolute; pointer-events: none; background: var(--ink); color: var(--page); font-size: 12px; line-height: 1.45; padding: 6px 9px;
  border-radius: 6px; opacity: 0; white-space: nowrap; font-variant-numeric: tabular-nums; z-index: 2; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: 6px 10px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; font-variant-numeric: tabular-nums; }
th { font-weight: 550; white-space: nowrap; color: var(--muted); }
tr:last-child th, tr:last-child td { border-bottom: 0; }
.verdicts { list-style: none; margin: 0; padding: 4px 0; font-size: 14px; }
.verdicts li { padding: 5px 0 5px 26px; position: relative; }
.verdicts li::before { position: absolute; left: 2px; font-weight: 700; }
.verdicts .good::before { content: "✓"; color: var(--trained); } .verdicts .wrong::before { content: "✗"; color: var(--bad); }
.verdicts b { font-weight: 600; margin-right: 6px; }
.scroll { overflow-x: auto; }
footer { color: var(--muted); font-size: 12.5px; margin-top: 26px; }
)css";

// For text and attribute values.
[[nodiscard]] std::string escape_html(std::string_view text);
// 1234567 -> "1,234,567"
[[nodiscard]] std::string grouped(uint64_t value);
// One big figure; `good` colours it.
[[nodiscard]] std::string card(const std::string& value, const std::string& name, const std::string& note,
                               std::optional<bool> good);

}  // namespace adapath
