// Run: npm install openai && OPENAI_BASE_URL=http://localhost:8000/v1 OPENAI_API_KEY=... node chat.mjs
import OpenAI from "openai";

const [model = "support", text = "How do I download my invoice?"] = process.argv.slice(2);
const client = new OpenAI(); // reads OPENAI_BASE_URL and OPENAI_API_KEY

const stream = await client.chat.completions.create({
  model,
  messages: [
    { role: "system", content: "Customer support." },
    { role: "user", content: text },
  ],
  temperature: 0,
  stream: true,
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
}
process.stdout.write("\n");
