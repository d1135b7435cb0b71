// Calls to the service: the same paths that any caller uses.

const KEY = "clearweight-token";

export class ApiError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export const setToken = (token) => sessionStorage.setItem(KEY, token);

async function call(path, options = {}) {
  const headers = { ...options.headers };
  const token = sessionStorage.getItem(KEY);
  if (token) headers.Authorization = `Bearer ${token}`;
  let reply;
  try {
    reply = await fetch(path, { ...options, headers });
  } catch {
    throw new ApiError(0, "The service does not answer.");
  }
  const body = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new ApiError(reply.status, body.error ?? `The service answered ${reply.status}.`);
  return body;
}

const model = (name) => `v2/models/${encodeURIComponent(name)}`;

export const models = async () => (await call("v2/models")).models;
export const card = (name) => call(`web/card/${encodeURIComponent(name)}`);
// The artifact's own probes: only the admin port has them.
export const canaries = (name) => call(`web/canaries/${encodeURIComponent(name)}`).catch(() => ({ inputs: [] }));
export const health = (name) => call(`${model(name)}/drift`);

// One row, explained. Returns outputs by name, parameters, and the time it took here.
export async function explain(name, tensor, parameters) {
  const started = performance.now();
  const reply = await call(`${model(name)}/explain`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ inputs: [tensor], parameters: { preprocess: true, ...parameters } }),
  });
  return unpack(reply, performance.now() - started);
}

export async function infer(name, tensor) {
  const started = performance.now();
  const reply = await call(`${model(name)}/infer`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ inputs: [tensor], parameters: { preprocess: true } }),
  });
  return unpack(reply, performance.now() - started);
}

function unpack(reply, milliseconds) {
  const outputs = {};
  for (const output of reply.outputs) outputs[output.name] = output;
  return { outputs, parameters: reply.parameters ?? {}, milliseconds };
}
