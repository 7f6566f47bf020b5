'use strict';
// Everything shown is set as text (textContent): callers choose some of it.

const EVERY = 1000, PATIENCE = 4000;  // ms
const NOW = 10, MINUTE = 60, KEPT = 120;  // s
const MOST_LIMITS = 50;
const $ = (id) => document.getElementById(id);

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

// Writes only changes: unchanged text is not announced again, and stays selected.
function write(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

// A text that a caller chose. Characters that are invisible, or that change how others are
// shown, appear as their code points.
function visible(text) {
  const isolated = element('bdi');
  for (const part of text.split(/([\p{C}\p{Zl}\p{Zp}])/u)) {
    if (/^[\p{C}\p{Zl}\p{Zp}]$/u.test(part)) {
      const number = part.codePointAt(0).toString(16).toUpperCase().padStart(4, '0');
      isolated.append(element('span', 'esc', 'U+' + number));
    } else if (part) {
      isolated.append(part);
    }
  }
  return isolated;
}

// --- Numbers ---

const whole = new Intl.NumberFormat('en', {maximumFractionDigits: 0});
const tenths = new Intl.NumberFormat('en', {maximumFractionDigits: 1});

function rate(value) {
  if (value === null) return '–';
  return (value > 0 && value < 100 ? tenths : whole).format(value);
}

function time(seconds) {
  if (seconds === null) return '–';
  if (seconds < 0.001) return whole.format(seconds * 1e6) + ' µs';
  if (seconds < 1) return tenths.format(seconds * 1e3) + ' ms';
  return tenths.format(seconds) + ' s';
}

function age(seconds) {
  const [days, hours, minutes] = [86400, 3600, 60].map((unit) => Math.floor(seconds / unit));
  if (days > 0) return `${days} d ${hours % 24} h`;
  if (hours > 0) return `${hours} h ${minutes % 60} min`;
  if (minutes > 0) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(seconds)} s`;
}

const sum = (values) => values.reduce((total, value) => total + value, 0);

// --- Past responses: the newest last ---

let past = [];

function remember(stats, top) {
  const t = stats.uptime_seconds;
  const last = past.at(-1);
  // A restarted daemon, or a page that was hidden for long.
  if (last && (t < last.t || t - last.t > NOW)) past = [];
  const limits = new Map(stats.limits.map((limit) => [limit.name, limit]));
  const users = {};
  for (const status of ['allowed', 'denied']) {
    users[status] = new Map(top[status].map((user) => [user.user, user.count]));
  }
  past.push({t, stats, limits, users});
  while (past[0].t < t - KEPT) past.shift();
}

// The response that is `seconds` older than the newest, or the nearest to that.
function before(seconds) {
  const now = past.at(-1);
  return past.find((one) => one.t >= now.t - seconds - 0.5 && one !== now) ?? null;
}

// A function that gives a counter's rate per second over the last `seconds`; null: unknown.
function growth(seconds) {
  const [from, to] = [before(seconds), past.at(-1)];
  return (count) => {
    if (!from || to.t <= from.t) return null;
    const [first, last] = [count(from), count(to)];
    if (first === undefined || last === undefined || last < first) return null;
    return (last - first) / (to.t - from.t);
  };
}

const perSecond = (seconds, count) => growth(seconds)(count);

// A point for each pair of successive responses.
function steps(of) {
  const points = [];
  for (let i = 1; i < past.length; ++i) {
    const span = past[i].t - past[i - 1].t;
    points.push([past[i].t, of((count) => (count(past[i]) - count(past[i - 1])) / span)]);
  }
  return points;
}

function draw(id, points, most) {
  const [area, line] = $(id).children;
  if (points.length < 2) {
    for (const path of [area, line]) path.setAttribute('d', '');
    return;
  }
  const end = points.at(-1)[0];
  const place = ([t, value]) =>
    `${(120 - (end - t) * 120 / KEPT).toFixed(2)} ${(30 - value / most * 27).toFixed(2)}`;
  const path = 'M' + points.map(place).join('L');
  line.setAttribute('d', path);
  area.setAttribute('d', `${path}L120 32L${(120 - (end - points[0][0]) * 120 / KEPT).toFixed(2)} 32Z`);
}

// As Prometheus's histogram_quantile: above the last bound, that bound.
function quantile(q, bounds, counts) {
  const total = sum(counts);
  if (total === 0) return null;
  let left = q * total;
  for (let i = 0; i < bounds.length; ++i) {
    const lower = i === 0 ? 0 : bounds[i - 1];
    if (left <= counts[i]) return lower + (bounds[i] - lower) * left / counts[i];
    left -= counts[i];
  }
  return bounds.at(-1);
}

// --- Sections of the page ---

function showDecisions() {
  for (const status of ['allowed', 'denied', 'error']) {
    const count = (one) => one.stats.requests[status];
    write(status, rate(perSecond(5, count)));
    const points = steps((each) => each(count));
    const peak = Math.max(0, ...points.map(([, value]) => value));
    write(`${status}-peak`, points.length ? `peak ${rate(peak)} in 2 min` : '');
    draw(`${status}-spark`, points, Math.max(peak, 1));
  }
  const denied = (one) => one.stats.requests.denied;
  const decided = (one) => one.stats.requests.allowed + denied(one);
  const share = (part, all) => (all > 0 ? part / all : 0);
  const all = perSecond(MINUTE, decided);
  write('share', all ? tenths.format(100 * share(perSecond(MINUTE, denied), all)) : '–');
  draw('share-spark', steps((each) => share(each(denied), each(decided))), 1);
}

function showStore(stats) {
  $('redis').hidden = !stats.redis;
  $('memory').hidden = !stats.memory;
  write('store-title', stats.redis ? 'Redis' : 'Memory');
  if (stats.memory) {
    write('buckets', whole.format(stats.memory.buckets));
    write('rejected', whole.format(stats.memory.rejected));
  }
  if (!stats.redis) return;
  const {latency, breakers_open: open, breaker_openings: openings} = stats.redis;
  const from = before(MINUTE);
  const counts = latency.counts.map((count, i) => count - (from?.stats.redis.latency.counts[i] ?? count));
  for (const [id, q] of [['p50', 0.5], ['p95', 0.95], ['p99', 0.99]]) {
    write(id, time(quantile(q, latency.bounds, counts)));
  }
  write('trips', rate(perSecond(NOW, (one) => sum(one.stats.redis.latency.counts))) + ' per second');
  // Errors of the last minute, by kind.
  const errors = Object.entries(stats.redis.errors).map(
      ([kind, count]) => [kind, count - (from?.stats.redis.errors[kind] ?? count)]);
  const told = errors.filter(([, count]) => count > 0);
  write('redis-errors', told.map(([kind, count]) => `${whole.format(count)} ${kind}`).join(', ') || 'none');
  $('redis-errors').className = told.length ? 'error' : '';
  const often = openings === 1 ? 'opened once' : `opened ${whole.format(openings)} times`;
  write('breaker', (open === 0 ? 'closed' : open === 1 ? 'open' : `open for ${open} masters`) +
        (openings ? `, ${often}` : ''));
  $('breaker').className = open ? 'error' : '';
}

const HEALTH = {ready: ['Ready', 'good'], degraded: ['Degraded', 'doubt'], 'not ready': ['Not ready', 'bad']};

function showInstance(stats) {
  const {status, reason} = stats.readiness;
  say(...HEALTH[status], reason === undefined ? '' : status === 'degraded' ?
      `The store is unavailable; FAIL_MODE=${stats.fail_mode} decides: ${reason}` :
      `Not ready: ${reason}`);
  write('who', `${location.host} · version ${stats.version}`);
  write('health', status === 'ready' ? 'available' : 'unavailable');
  $('health').className = status === 'ready' ? '' : 'error';
  write('mode', stats.fail_mode);
  const degraded = (one) => sum(Object.values(one.stats.degraded));
  for (const [id, count] of [['degraded', degraded], ['shed', (one) => one.stats.shed]]) {
    write(id, `${rate(perSecond(NOW, count))} per second, ${whole.format(count(past.at(-1)))} in total`);
  }
  write('in-flight', whole.format(stats.in_flight));
  write('uptime', age(stats.uptime_seconds));
}

let limits = [];  // From /api/v1/limits.

function about(limit) {
  const quota = limit.capacity === 0 ? 'always denies' :
    `${whole.format(limit.capacity)} tokens, ${whole.format(limit.refill.tokens)} back every ${limit.refill.interval}`;
  const where = [limit.path === '*' ? 'any path' : limit.path,
                 ...Object.entries(limit.attributes).map(([key, value]) => `${key}=${value}`)];
  return `${quota} · ${where.join(', ')}`;
}

function showLimits() {
  const grown = growth(NOW);
  const counted = limits.map((limit) => {
    const of = (status) => grown((one) => one.limits.get(limit.name)?.[status]);
    return {limit, allowed: of('allowed'), denied: of('denied'), shadow: of('shadow_denied')};
  });
  // Of many limits, the busiest.
  const busy = ({allowed, denied, shadow}) => allowed + denied + shadow;
  const shown = counted.length <= MOST_LIMITS ? counted :
    counted.sort((one, other) => busy(other) - busy(one)).slice(0, MOST_LIMITS);
  const body = $('limits').tBodies[0];
  while (body.rows.length > shown.length) body.deleteRow(-1);
  shown.forEach(({limit, allowed, denied, shadow}, i) => {
    let row = body.rows[i];
    if (!row) {
      row = body.insertRow();
      const name = element('th');
      name.scope = 'row';
      row.append(name, ...[0, 0, 0].map(() => element('td', 'num')));
    }
    if (row.limit !== limit) {
      row.limit = limit;
      const name = element('strong', '', limit.name);
      const badge = limit.shadow ? [element('span', 'badge', 'shadow')] : [];
      row.cells[0].replaceChildren(name, ...badge, element('span', 'sub', visible(about(limit))));
    }
    [[allowed, 'allowed'], [denied, 'denied'], [shadow, 'shadowed']].forEach(([value, tone], j) => {
      const cell = row.cells[j + 1];
      const number = j === (limit.shadow ? 1 : 2) && !value ? '–' : rate(value);
      if (cell.textContent !== number) cell.textContent = number;
      cell.className = value > 0 ? `num ${tone}` : 'num';
    });
  });
  $('limits-more').hidden = shown.length === counted.length;
  write('limits-more', `The busiest ${shown.length} of ${counted.length} limits.`);
}

// A user's requests per second. Counts decay: a request of `window` seconds ago counts 1/e.
function sends(status, user, window) {
  const [from, to] = [before(NOW), past.at(-1)];
  const counts = [from, to].map((one) => one?.users[status].get(user));
  if (counts.includes(undefined) || to.t <= from.t) return null;
  const span = to.t - from.t;
  return Math.max(0, counts[1] - counts[0] * Math.exp(-span / window)) / span;
}

function showTop(status, users, window) {
  const body = $(`top-${status}`).tBodies[0];
  const rows = users.slice(0, 10).map(({user, count, error}) => {
    const name = element('th', '', element('span', 'id', visible(user)));
    name.scope = 'row';
    const row = element('tr', '', name, element('td', 'num', rate(sends(status, user, window))),
                        element('td', 'num', (error ? '≤ ' : '') + whole.format(count)));
    row.style.setProperty('--part', `${100 * count / users[0].count}%`);
    return row;
  });
  const old = [...body.rows].map((row) => row.textContent).join('\n');
  if (old !== rows.map((row) => row.textContent).join('\n')) body.replaceChildren(...rows);
  $(`top-${status}`).hidden = rows.length === 0;
  $(`top-${status}-empty`).hidden = rows.length > 0;
}

function showSettings(settings) {
  const rows = settings.map((setting) => {
    const {name, value, source, meaning} = setting;
    const head = element('th', '', element('strong', '', name), element('span', 'sub', meaning));
    head.scope = 'row';
    const origin = source === 'default' ? 'default' : source === 'flag' ?
      'set by its flag' : 'set in the environment';
    const other = source === 'default' ? '' : setting.default === '' ?
      '; default: none' : `; default: ${setting.default}`;
    const cell = element('td', '', value === '' ? element('span', 'sub', 'none') : visible(value),
                         element('span', 'sub', origin + other));
    const row = element('tr', '', head, cell);
    row.dataset.source = source;
    return row;
  });
  $('settings').tBodies[0].replaceChildren(...rows);
  filterSettings();
}

function filterSettings() {
  const rows = [...$('settings').tBodies[0].rows];
  for (const row of rows) row.hidden = $('set-only').checked && row.dataset.source === 'default';
  const none = rows.every((row) => row.hidden);
  $('settings').hidden = none;
  $('settings-empty').hidden = !none;
}

function showFile({file, loaded_at, reloads}) {
  let hint = 'Decisions per second over the last 10 seconds';
  if (file) hint += ` · ${file}, loaded ${new Date(loaded_at).toLocaleString()}`;
  write('limits-hint', hint);
  if (reloads.errors.length) {
    $('limits-hint').append(element('span', 'error', ` · last reload rejected: ${reloads.errors[0]}`));
  }
}

// The state at the top, and the notice below it.
let gist = '';
function say(word, tone, notice) {
  write('state', word);
  $('state').className = `state ${tone}`;
  document.title = tone === 'good' ? 'Rate limiter' : `${word} – Rate limiter`;
  write('notice', notice);
  $('notice').className = `notice ${tone}`;
  $('notice').hidden = notice === '';
  // Screen readers hear a notice once, although the durations in it change: "3s" follows "2999ms".
  if (gist !== (gist = word + notice.replace(/\d+[a-z]*/g, ''))) write('alert', notice);
  $('main').classList.toggle('stale', word === 'No response');
}

