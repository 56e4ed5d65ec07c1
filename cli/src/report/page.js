'use strict';
// Tables: a click on a heading sorts by it, another one the other way round.
for (const table of document.querySelectorAll('table.data')) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => heading.firstElementChild.addEventListener('click', () => {
    const down = heading.getAttribute('aria-sort') === 'ascending';
    headings.forEach((other) => other.removeAttribute('aria-sort'));
    heading.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [row.cells[column].textContent, row]);
    const numbers = rows.every(([text]) => text === '' || text === 'NaN' || !Number.isNaN(Number(text)));
    const compare = numbers
      // What is no number comes last, whichever way.
      ? (a, b) => {
        const [x, y] = [a, b].map((text) => (text === '' ? NaN : Number(text)));
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return down ? y - x : x - y;
      }
      : (a, b) => (down ? -1 : 1) * a.localeCompare(b, undefined, { numeric: true });
    rows.sort((a, b) => compare(a[0], b[0])).forEach(([, row]) => body.append(row));
  }));
}
// Sounds: one plays at a time, with a line that shows where.
const sounds = [...document.querySelectorAll('.clip audio')];
for (const audio of sounds) {
  audio.addEventListener('play', () => sounds.forEach((other) => { if (other !== audio) other.pause(); }));
  const picture = audio.closest('.clip').querySelector('.picture');
  if (!picture) continue;
  const head = document.createElement('div');
  head.className = 'head';
  picture.append(head);
  const show = () => {
    head.style.left = `${audio.duration > 0 ? 100 * audio.currentTime / audio.duration : 0}%`;
    if (!audio.paused) requestAnimationFrame(show);
  };
  for (const name of ['play', 'seeked', 'timeupdate', 'loadedmetadata']) audio.addEventListener(name, show);
  picture.addEventListener('click', (event) => {
    const box = picture.getBoundingClientRect();
    if (audio.duration > 0) audio.currentTime = audio.duration * (event.clientX - box.left) / box.width;
  });
}
// Clips of one prompt: a slider changes between them and stays at the same place of the music.
for (const compare of document.querySelectorAll('.compare')) {
  const clips = [...compare.parentElement.querySelectorAll('.clip')];
  const slider = compare.querySelector('input');
  const name = compare.querySelector('output');
  const [play, back, all] = compare.querySelectorAll('button');
  const sound = (index) => clips[index].querySelector('audio');
  let now = 0;
  let before = 0;
  let everything = false;
  const show = () => {
    clips.forEach((clip, index) => { clip.hidden = !everything && index !== now; });
    name.textContent = clips[now].dataset.name;
    slider.setAttribute('aria-valuetext', clips[now].dataset.name);
    play.textContent = sound(now) && !sound(now).paused ? 'Pause' : 'Play';
    play.disabled = !sound(now);
  };
  const change = (next) => {
    if (next === now) return;
    const [from, to] = [sound(now), sound(next)];
    const playing = from && !from.paused;
    if (from && to) {
      const place = from.currentTime;
      const go = () => { to.currentTime = Math.min(place, to.duration || place); };
      if (to.readyState > 0) go(); else to.addEventListener('loadedmetadata', go, { once: true });
    }
    if (from) from.pause();
    [before, now] = [now, next];
    slider.value = String(now);
    back.disabled = false;
    show();
    if (playing && to) to.play().catch(() => {});
  };
  slider.addEventListener('input', () => change(Number(slider.value)));
  back.addEventListener('click', () => change(before));
  play.addEventListener('click', () => {
    const audio = sound(now);
    if (audio) { if (audio.paused) audio.play().catch(() => {}); else audio.pause(); }
  });
  all.addEventListener('click', () => {
    everything = !everything;
    all.setAttribute('aria-pressed', String(everything));
    show();
  });
  clips.forEach((clip) => {
    const audio = clip.querySelector('audio');
    if (audio) for (const event of ['play', 'pause', 'ended']) audio.addEventListener(event, show);
  });
  compare.hidden = false;
  show();
}
