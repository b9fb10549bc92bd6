// The openai SDK for Node, and Vercel's AI SDK: answers, streams, tools, typed values, errors.
import assert from 'node:assert/strict'
import { createOpenAI } from '@ai-sdk/openai'
import { generateObject, generateText, streamText, tool } from 'ai'
import OpenAI from 'openai'
import { z } from 'zod'

const model = process.env.MODEL
const question = 'Where is the lamp?'
const messages = [{ role: 'user', content: question }]
const part = z.object({ part: z.enum(['lamp', 'desk']), exact: z.boolean() })
const parameters = {
  type: 'object',
  properties: { part: { enum: ['lamp', 'desk'] }, exact: { type: 'boolean' } },
  required: ['part', 'exact'],
  additionalProperties: false
}

const client = new OpenAI()
const asked = { model, messages, max_tokens: 200, temperature: 1 }
assert.ok((await client.chat.completions.create(asked)).choices[0].message.content)
let chunks = 0
for await (const _ of await client.chat.completions.create({ ...asked, stream: true })) chunks++
assert.ok(chunks > 1)
const called = await client.chat.completions.create({
  ...asked,
  tools: [{ type: 'function', function: { name: 'find_part', parameters } }],
  tool_choice: 'required',
  parallel_tool_calls: false
})
part.parse(JSON.parse(called.choices[0].message.tool_calls[0].function.arguments))
const response = await client.responses.create({ model, input: question, max_output_tokens: 50 })
assert.ok(response.output.length)
const types = []
const events = await client.responses.create({
  model, input: question, max_output_tokens: 50, stream: true
})
for await (const event of events) types.push(event.type)
assert.equal(types.at(-1), 'response.completed')
const listed = []
for await (const one of client.models.list()) listed.push(one.id)
assert.ok(listed.includes(model))
await assert.rejects(client.chat.completions.create({ ...asked, model: 'nothing' }), error => {
  assert.ok(error instanceof OpenAI.NotFoundError)
  assert.equal(error.code, 'model_not_found')
  assert.match(error.requestID, /^req_/)
  return true
})

const provider = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL })
for (const one of [provider(model), provider.chat(model)]) {
  const options = { model: one, prompt: question, maxOutputTokens: 200, temperature: 1 }
  assert.ok((await generateText(options)).text)
  let text = ''
  for await (const piece of streamText(options).textStream) text += piece
  assert.ok(text)
  part.parse((await generateObject({ ...options, schema: part })).object)
  const { toolCalls } = await generateText({
    ...options,
    tools: { find_part: tool({ description: 'Says where a part is.', inputSchema: part }) },
    toolChoice: 'required',
    // a base of this size repeats a call that it may repeat until its answer is full
    providerOptions: { openai: { parallelToolCalls: false } }
  })
  part.parse(toolCalls[0].input)
}
console.log('done')
