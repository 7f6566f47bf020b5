// --- Requests to the admin API ---

// Keeps the token, unless the browser forbids storage.
const tab = (() => { try { return window.sessionStorage; } catch { return null; } })();
let token = tab?.getItem('token') ?? '';

function keepToken(value) {
  token = value;
  if (value) tab?.setItem('token', value); else tab?.removeItem('token');
}

// Shows either the form for the token or everything else.
function lock(locked) {
  // Links cannot send a token.
  $('json').hidden = locked || token !== '';
  if ($('sign-in').hidden === !locked) return;
  $('sign-in').hidden = !locked;
  $('main').classList.toggle('locked', locked);
  $('skip').href = locked ? '#token' : '#user';
  $('pause').hidden = locked;
  if (locked) $('token').focus();
}

async function ask(name, body) {
  const options = {cache: 'no-store', headers: {}, signal: AbortSignal.timeout(PATIENCE)};
  if (token) options.headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) {
    options.method = 'POST';
    options.headers['Content-Type'] = 'application/json';
    options.body = JSON.stringify(body);
  }
  const response = await fetch(`/api/v1/${name}`, options);
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.error.message), {code: answer.error.code});
  return answer;
}

const paused = () => $('pause').getAttribute('aria-pressed') === 'true';

let timer = 0, asking = false, turn = 0, silentSince = null;

async function poll() {
  clearTimeout(timer);
  if (asking || document.hidden || paused()) return;
  asking = true;
  try {
    const [stats, top] = await Promise.all([ask('stats'), ask('top')]);
    const restarted = past.length === 0 || stats.uptime_seconds < past.at(-1).t;
    if (restarted) showSettings((await ask('settings')).settings);
    if (restarted || turn++ % 10 === 0) {
      const answer = await ask('limits');
      limits = answer.limits;
      showFile(answer);
    }
    if (paused()) return;
    lock(false);
    remember(stats, top);
    silentSince = null;
    showInstance(stats);
    showDecisions();
    showStore(stats);
    showLimits();
    showTop('allowed', top.allowed, top.window_seconds);
    showTop('denied', top.denied, top.window_seconds);
  } catch (error) {
    if (error.code === 'UNAUTHENTICATED') {
      say('Locked', 'doubt', token ? 'Invalid token.' : '');
      keepToken('');
      lock(true);
      return;
    }
    silentSince ??= new Date();
    const since = silentSince.toLocaleTimeString();
    say('No response', 'bad', error.code ?
        `The daemon has returned an error since ${since}: ${error.message}` :
        `The daemon has not responded since ${since}. The figures are older; retrying every second.`);
  } finally {
    asking = false;
    if ($('sign-in').hidden) timer = setTimeout(poll, EVERY);
  }
}

$('enter').addEventListener('submit', (event) => {
  event.preventDefault();
  keepToken($('token').value);
  $('token').value = '';
  poll();
});

$('pause').addEventListener('click', () => {
  $('pause').setAttribute('aria-pressed', !paused());
  if (paused()) say('Paused', '', '');
  poll();
});
document.addEventListener('visibilitychange', poll);
$('set-only').addEventListener('change', filterSettings);

// --- The form ---

function readAttributes() {
  const attributes = Object.create(null);  // No prototype: __proto__ is a name like any other.
  for (const line of $('attributes').value.split('\n').filter((text) => text.trim())) {
    const sign = line.indexOf('=');
    if (sign < 1) throw new Error(`Attributes: “${line}” is not key=value`);
    attributes[line.slice(0, sign).trim()] = line.slice(sign + 1).trim();
  }
  return attributes;
}

function showAnswer(answer, dry) {
  const verdict = element('p', `verdict ${answer.allowed ? 'allowed' : 'denied'}`,
                          answer.allowed ? '✓ Allowed' : '✕ Denied');
  const paid = !dry && answer.allowed && (!answer.fail_mode || answer.fail_mode === 'local');
  const took = answer.limits.length === 0 ? '' : paid ? ' · tokens taken' : ` · ${dry ? 'dry run: ' : ''}no tokens taken`;
  const parts = [verdict, element('p', 'hint', visible(answer.reason), took)];
  if (answer.limits.length) {
    const head = element('tr', '', ...['Limit', 'Says', 'Left', 'Retry in', 'Full in'].map((text, i) => {
      const cell = element('th', i > 1 ? 'num' : '', text);
      cell.scope = 'col';
      return cell;
    }));
    const rows = answer.limits.map((limit) => {
      const name = element('th', '', element('strong', '', limit.name));
      name.scope = 'row';
      if (limit.shadow) name.append(element('span', 'badge', 'shadow'));
      const wait = (text) => (text === undefined ? '–' : time(parseFloat(text)));
      return element('tr', '', name,
                     element('td', limit.allowed ? 'allowed' : 'denied', limit.allowed ? 'allowed' : 'denied'),
                     element('td', 'num', `${whole.format(limit.remaining)} of ${whole.format(limit.limit)}`),
                     element('td', 'num', wait(limit.retry_after)),
                     element('td', 'num', wait(limit.reset_after)));
    });
    parts.push(element('table', '', element('thead', '', head), element('tbody', '', ...rows)));
  } else if (!answer.fail_mode) {
    parts.push(element('p', 'empty', 'No limit applies to this request.'));
  }
  $('answer').replaceChildren(...parts);
}

$('dry').addEventListener('change', () => {
  $('send').textContent = $('dry').checked ? 'Try' : 'Send, and take tokens';
  $('send').classList.toggle('real', !$('dry').checked);
});

let sending = false;
$('try').addEventListener('submit', async (event) => {
  event.preventDefault();
  if (sending) return;  // A second click is not a second request.
  sending = true;
  const dry = $('dry').checked;
  try {
    showAnswer(await ask('check', {user_id: $('user').value, path: $('path').value,
                                   cost: Number($('cost').value), attributes: readAttributes(),
                                   dry_run: dry}), dry);
  } catch (error) {
    const title = error.code ?? (error.message.startsWith('Attributes') ? 'Not sent' : 'No response');
    $('answer').replaceChildren(element('p', 'verdict error', title),
                                element('p', 'hint', visible(error.message)));
  } finally {
    sending = false;
  }
});

poll();
