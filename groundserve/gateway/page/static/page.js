// What the page does in the browser by itself: a drag or a key must not wait for the server.
const { max, min, round, floor, abs } = Math;

function clock(seconds) {
  const tenths = round(max(0, seconds) * 10);
  const [h, m, s] = [floor(tenths / 36000), floor(tenths / 600) % 60, (tenths % 600) / 10];
  const tail = s.toFixed(tenths % 10 ? 1 : 0).padStart(tenths % 10 ? 4 : 2, "0");
  return h ? `${h}:${String(m).padStart(2, "0")}:${tail}` : `${m}:${tail}`;
}

function tooltip(found) {
  const points = found.filter((one) => one.seriesType === "line" && one.value?.length);
  if (!points.length) return "";
  return [clock(points[0].value[0]), ...points.map((p) => `${p.marker} ${p.value[1].toFixed(3)}`)].join("<br>");
}

let seek = () => {};

function connect({ chart_id, video_id, still_id, times, half_frame, video_path, frames, duration, begin }) {
  const box = getHtmlElement(chart_id), chart = getElement(chart_id)?.chart, video = getHtmlElement(video_id);
  if (!chart || (video_id && !video)) return setTimeout(() => connect(...arguments), 50);
  const head = box.appendChild(Object.assign(document.createElement("div"), { className: "playhead" }));
  let now = 0, wanted = null, stills = !video;
  const nearest = (t) => times.reduce((best, time, i) => (abs(time - t) < abs(times[best] - t) ? i : best), 0);
  function show() {
    const [x, end] = [chart.convertToPixel({ xAxisIndex: 0 }, now), box.clientWidth - 16];
    head.style.cssText = `left:${x}px;display:${x < 39 || x > end + 1 ? "none" : "block"}`;
    box.setAttribute("aria-valuenow", now.toFixed(2));
    box.setAttribute("aria-valuetext", clock(now));
  }
  seek = (t) => {
    now = min(max(t, 0), duration);
    if (stills && still_id && times.length)
      getHtmlElement(still_id).querySelector("img").src = `${video_path}/frames/${frames[nearest(now)]}.jpg?longest_side=960`;
    else if (video && video.seeking) wanted = now;
    else if (video) video.currentTime = now;
    show();
  };
  if (video) {
    video.addEventListener("seeked", () => { if (wanted !== null) [video.currentTime, wanted] = [wanted, null]; });
    for (const name of ["timeupdate", "seeked"])
      video.addEventListener(name, () => { if (!video.seeking) now = video.currentTime; show(); });
    const fail = () => { stills = true; video.style.display = "none"; getHtmlElement(still_id).style.display = "block"; seek(now); };
    video.addEventListener("error", fail);
    if (video.error) fail();
    const follow = () => { if (!video.paused) { now = video.currentTime; show(); requestAnimationFrame(follow); } };
    video.addEventListener("play", follow);
  }
  const drag = (e) => {
    const at = box.getBoundingClientRect();
    seek(chart.convertFromPixel({ xAxisIndex: 0 }, min(max(e.clientX - at.left, 40), box.clientWidth - 16)));
  };
  box.addEventListener("pointerdown", (e) => {
    const at = box.getBoundingClientRect();
    if (e.ctrlKey || !chart.containPixel("grid", [e.clientX - at.left, e.clientY - at.top])) return;
    const stop = new AbortController();
    window.addEventListener("pointermove", drag, stop);
    for (const name of ["pointerup", "pointercancel"]) window.addEventListener(name, () => stop.abort(), stop);
    drag(e);
  });
  box.addEventListener("keydown", (e) => {
    const zoom = chart.getOption().dataZoom[0], middle = (100 * now) / duration;
    const half = ((zoom.end - zoom.start) / 2) * ({ "+": 0.5, "-": 2 }[e.key] ?? 0);
    const i = nearest(now - half_frame), step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: -10, PageDown: 10, Home: -1e9, End: 1e9 }[e.key];
    if (step) seek((times[min(max(i + step, 0), times.length - 1)] ?? now + step) + half_frame);
    else if (half) chart.dispatchAction({ type: "dataZoom", start: max(0, middle - half), end: min(100, middle + half) });
    else if (e.key === " " && video) video.paused ? video.play() : video.pause();
    else return;
    e.preventDefault();
  });
  chart.on("datazoom", show);
  new ResizeObserver(show).observe(box);
  for (const [name, value] of Object.entries({ role: "slider", tabindex: 0, "aria-valuemin": 0, "aria-valuemax": duration })) box.setAttribute(name, value);
  if (begin) seek(begin);
  show();
}

// A file that is chosen or dropped goes to the gateway's own route; Python hears what became of it.
function upload(box, file) {
  if (!file) return;
  const call = new XMLHttpRequest(), form = new FormData(), bar = box.querySelector("progress");
  form.append("video", file);
  call.upload.onprogress = (e) => { bar.value = e.loaded / e.total; };
  call.onloadend = () => {
    bar.hidden = true;
    let told = { error: { message: "the upload broke off" } };
    try { told = JSON.parse(call.responseText); } catch {}
    box.dispatchEvent(new CustomEvent("told", { detail: told }));
  };
  bar.hidden = false;
  call.open("POST", "/v1/videos");
  call.send(form);
}

// The results that this browser has asked for, newest first.
const KEY = "groundserve.results";
const past = () => JSON.parse(localStorage.getItem(KEY) ?? "[]");
const remember = (one) => localStorage.setItem(KEY, JSON.stringify([one, ...past().filter((old) => old.id !== one.id)].slice(0, 30)));

window.groundserve = { clock, tooltip, connect, upload, past, remember, seek: (t) => seek(t) };
