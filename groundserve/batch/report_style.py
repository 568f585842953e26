"""How a batch's report looks, on light and on dark screens and on paper."""

STYLE = """
:root { color-scheme: light dark;
  --page: #fbfbfa; --card: #ffffff; --ink: #1d2327; --soft: #5c666d; --line: #dfe3e6;
  --good: #2a7f75; --bad: #c4472c; --note: #8a5a00;
  --c0: #2a7f75; --c1: #d98a1f; --c2: #4a6fb5; --c3: #a8508f;
  --c4: #7f9a3a; --c5: #c4472c; --c6: #5f7f95; --c7: #8d7355; }
@media (prefers-color-scheme: dark) { :root {
  --page: #14181b; --card: #1c2226; --ink: #e6eaec; --soft: #9aa6ad; --line: #333c42;
  --good: #4fb8aa; --bad: #ef7d61; --note: #e0b050;
  --c0: #4fb8aa; --c1: #e8a94e; --c2: #85a8e6; --c3: #d78cc2;
  --c4: #adc86a; --c5: #ef7d61; --c6: #8fb0c6; --c7: #bfa385; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 980px; margin: 0 auto; padding: 28px 20px 40px; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.05rem; margin: 0 0 10px; }
header p { margin: 4px 0 20px; overflow-wrap: anywhere; }
code { font: 0.92em ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace; }
.state { margin-left: 8px; padding: 2px 9px; border-radius: 10px; font-size: 0.85rem;
  border: 1px solid currentColor; white-space: nowrap; }
.state.done { color: var(--good); }
.state.open { color: var(--note); }
section, .tiles > div { background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; }
section { padding: 16px 18px; margin-top: 16px; }
section > p { margin: 0; }
.tiles { display: grid; gap: 10px; grid-template-columns: repeat(auto-fill, minmax(170px, 1fr));
  margin: 0; }
.tiles > div { padding: 10px 14px; }
dt { color: var(--soft); font-size: 0.85rem; }
dd { margin: 0; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
small { display: block; color: var(--soft); font-size: 0.78rem; min-height: 1.2em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; color: var(--soft); font-weight: 600; font-size: 0.85rem; }
th, td { padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere; }
td:first-child { min-width: 7rem; }
tbody tr:last-child td { border-bottom: 0; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
ul { margin: 0; padding-left: 1.1em; }
figure { margin: 0; }
figure + .wide { margin-top: 10px; }
figcaption { display: flex; gap: 18px; color: var(--soft); font-size: 0.85rem; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 12px; }
.level { stroke: var(--line); }
.axis { stroke: var(--soft); }
.attempt { stroke: var(--soft); stroke-dasharray: 4 4; }
.key { display: inline-block; width: 0.75em; height: 0.75em; border-radius: 2px;
  margin-right: 0.5em; }
.scored { fill: var(--good); background: var(--good); }
.failed { fill: var(--bad); background: var(--bad); }
.part0 { fill: var(--c0); background: var(--c0); }
.part1 { fill: var(--c1); background: var(--c1); }
.part2 { fill: var(--c2); background: var(--c2); }
.part3 { fill: var(--c3); background: var(--c3); }
.part4 { fill: var(--c4); background: var(--c4); }
.part5 { fill: var(--c5); background: var(--c5); }
.part6 { fill: var(--c6); background: var(--c6); }
.part7 { fill: var(--c7); background: var(--c7); }
footer { color: var(--soft); font-size: 0.85rem; margin-top: 18px; }
@media print { section { break-inside: avoid; } }
"""
"""CSS that names no file and no address."""
