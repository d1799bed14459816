// Plays a script with the official SDK: {host, writeKey, options, calls: [[method, params], ...]} on stdin;
// prints {errors, requests: [{events, retry, status}]} once everything is flushed.
const { Analytics } = require('@segment/analytics-node')

const script = JSON.parse(require('fs').readFileSync(0, 'utf8'))
const analytics = new Analytics({ writeKey: script.writeKey, host: script.host, ...script.options })
const errors = []
const requests = []
analytics.on('error', (e) => errors.push({ code: e.code, reason: String(e.reason?.message ?? e.reason) }))
analytics.on('http_request', (r) =>
  requests.push({ events: JSON.parse(r.body).batch.length, retry: r.headers['X-Retry-Count'] ?? null })
)
analytics.on('http_response', (r) => (requests[requests.length - 1].status = r.status))

const dates = (params) => ('timestamp' in params ? { ...params, timestamp: new Date(params.timestamp) } : params)
for (const [method, params] of script.calls) analytics[method](dates(params))
analytics.closeAndFlush({ timeout: 30000 }).then(() => console.log(JSON.stringify({ errors, requests })))
