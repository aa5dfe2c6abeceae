// Turns src/wire/schema.json (printed by `python -m otf_session.schema`) into src/wire/types.ts.

import { readFile, writeFile } from "node:fs/promises";
import process from "node:process";
import { isDeepStrictEqual } from "node:util";
import { fileURLToPath } from "node:url";
import { compile } from "json-schema-to-typescript";

/** @typedef {Record<string, unknown>} Schema */

const BANNER = "/* Generated from schema.json; do not edit, run `npm run wire`. */";
const ROOT = "WireRoot";
const schemaFile = new URL("../src/wire/schema.json", import.meta.url);
const typesFile = new URL("../src/wire/types.ts", import.meta.url);

/**
 * The TypeScript for a schema, as it should stand in types.ts.
 *
 * @param {{ protocol: number, $defs: Record<string, Schema> }} schema
 * @returns {Promise<string>}
 */
export async function generateTypes(schema) {
  const unions = Object.entries(schema.$defs).filter(([, definition]) => "anyOf" in definition);
  const $defs = Object.fromEntries(
    Object.entries(schema.$defs).map(([name, definition]) => [
      name,
      /** @type {Schema} */ (prepare(definition, unions.filter(([union]) => union !== name))),
    ]),
  );
  const source = await compile(
    { title: ROOT, type: "object", additionalProperties: false, $defs },
    ROOT,
    { bannerComment: "", unreachableDefinitions: true, format: true, style: { printWidth: 100 } },
  );
  return [
    BANNER,
    "",
    "/** Raised when an older peer could misread a frame. */",
    `export const PROTOCOL = ${String(schema.protocol)};`,
    "",
    withoutRoot(source).trim(),
    "",
  ].join("\n");
}

/**
 * A copy of a schema in which unions are named rather than repeated, tags are constants, and
 * objects are closed, so that the types discriminate and have no index signatures.
 *
 * @param {unknown} node
 * @param {[string, Schema][]} unions
 * @returns {unknown}
 */
function prepare(node, unions) {
  if (Array.isArray(node)) return node.map((item) => prepare(item, unions));
  if (typeof node !== "object" || node === null) return node;
  const schema = /** @type {Schema} */ (node);
  const named = unions.find(([, union]) => isDeepStrictEqual(union.anyOf, schema.anyOf));
  if (named) return { $ref: `#/$defs/${named[0]}` };
  const kept = Object.entries(schema).filter(
    ([key]) => key !== "discriminator" && key !== "default" && key !== "title",
  );
  /** @type {Schema} */
  const copy = Object.fromEntries(kept.map(([key, value]) => [key, prepare(value, unions)]));
  if ("properties" in copy) copy.additionalProperties ??= false;
  if (typeof copy.description === "string") copy.description = dedent(copy.description);
  return copy;
}

/** @param {string} text */
function dedent(text) {
  return text.replace(/\n +/g, "\n");
}

/**
 * The compiler names the document itself too; nothing is of that type.
 *
 * @param {string} source
 */
function withoutRoot(source) {
  const root = `export interface ${ROOT} {}\n`;
  if (!source.includes(root)) throw new Error(`the compiler no longer writes an empty ${ROOT}`);
  return source
    .replace(root, "")
    .replace(/\n \* This interface was referenced by `WireRoot`'s JSON-Schema\n \* via the `definition` "\w+"\.\n/g, "\n")
    .replace(/\/\*\*\n \*\/\n/g, "")
    .replace(/\n \*\n \*\//g, "\n */");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  /** @type {unknown} */
  const schema = JSON.parse(await readFile(schemaFile, "utf8"));
  await writeFile(
    typesFile,
    await generateTypes(/** @type {Parameters<typeof generateTypes>[0]} */ (schema)),
  );
}
