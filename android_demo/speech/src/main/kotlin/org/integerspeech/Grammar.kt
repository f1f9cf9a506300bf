package org.integerspeech

import kotlin.random.Random
import org.json.JSONObject

/** What may be said to a bundle: the automaton of its grammar.json. */
class Grammar internal constructor(content: JSONObject, private val tokens: List<String>) {
    private val start = content.getInt("start")
    private val arcs: Map<Int, List<Arc>>
    private val finals: Set<Int>

    /** Names of the commands. */
    val intents: List<String> = content.getJSONArray("intents").let { names ->
        List(names.length()) { names.getString(it) }
    }

    private class Arc(val token: Int, val target: Int)

    init {
        val rows = content.getJSONArray("arcs")
        val read = List(rows.length()) { rows.getJSONArray(it) }
        arcs = read.groupBy({ it.getInt(0) }, { Arc(it.getInt(1), it.getInt(2)) })
        val ends = content.getJSONArray("finals")
        finals = List(ends.length()) { ends.getJSONArray(it).getInt(0) }.toSet()
    }

    /** Different commands, at random: up to [count]. */
    fun examples(count: Int, random: Random = Random.Default): List<String> {
        val found = linkedSetOf<String>()
        repeat(ATTEMPTS * count) {
            if (found.size < count) example(random)?.let(found::add)
        }
        return found.toList()
    }

    private fun example(random: Random): String? {
        val text = StringBuilder()
        var state = start
        repeat(LONGEST) {
            val ways = arcs[state].orEmpty()
            if (state in finals && (ways.isEmpty() || random.nextBoolean())) {
                return text.toString().trim()
            }
            val arc = ways.randomOrNull(random) ?: return null
            text.append(spoken(tokens[arc.token]))
            state = arc.target
        }
        return null
    }

    private companion object {
        const val ATTEMPTS = 10
        const val LONGEST = 200 // tokens

        fun spoken(token: String) = if (token == "<space>") " " else token.replace('\u2581', ' ')
    }
}
