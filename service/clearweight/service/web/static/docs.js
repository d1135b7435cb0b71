// The API as the service describes itself in openapi.json; nothing is fetched from elsewhere.

import { followTheme } from "./theme.js";
import { byId, element } from "./dom.js";

followTheme(() => {});

const VERBS = ["get", "post", "put", "delete"];

function resolve(document, node) {
  const name = node?.$ref?.split("/").slice(1);
  return name ? name.reduce((at, key) => at[key], document) : node;
}

function bodies(document, title, content) {
  return Object.entries(content ?? {}).map(([kind, media]) =>
    element("details", {}, element("summary", {}, `${title}, ${kind}`),
      element("pre", { tabindex: 0 }, JSON.stringify(resolve(document, media.schema) ?? {}, null, 2))));
}

function operation(document, verb, path, about) {
  const parameters = (about.parameters ?? []).map((one) => resolve(document, one)).map((one) =>
    element("li", {}, element("code", {}, one.name), ` (${one.in}${one.required ? ", required" : ""}) ${one.description ?? ""}`));
  const replies = Object.entries(about.responses ?? {}).flatMap(([status, reply]) =>
    bodies(document, `Reply ${status}`, resolve(document, reply).content));
  return element("section", { class: "panel operation" },
    element("h2", {}, element("span", { class: "verb" }, verb.toUpperCase()), " ", element("code", {}, path)),
    element("p", {}, about.summary ?? ""),
    ...(parameters.length ? [element("ul", { class: "quiet" }, ...parameters)] : []),
    ...bodies(document, "Request", resolve(document, about.requestBody)?.content),
    ...replies);
}

try {
  const reply = await fetch("openapi.json");
  if (!reply.ok) throw new Error(`The service answered ${reply.status}.`);
  const document = await reply.json();
  const found = Object.entries(document.paths).flatMap(([path, verbs]) =>
    VERBS.filter((verb) => verbs[verb]).map((verb) => operation(document, verb, path, verbs[verb])));
  byId("operations").replaceChildren(element("p", { class: "quiet" }, `${document.info.title} ${document.info.version}`), ...found);
} catch (error) {
  byId("operations").replaceChildren(element("p", { class: "notice bad", role: "alert" }, error.message));
}
