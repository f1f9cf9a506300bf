package org.integerspeech.demo

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.util.AttributeSet
import android.view.View

/** A bar as long as the sound is loud. */
class LevelView(context: Context, attributes: AttributeSet) : View(context, attributes) {
    private val track = paint(R.color.track)
    private val bar = paint(R.color.primary)

    /** Decibels of full scale; speech is between -60 and -10. */
    var decibels = QUIETEST
        set(value) {
            field = value
            invalidate()
        }

    override fun onDraw(canvas: Canvas) {
        val round = height / 2f
        val share = ((decibels - QUIETEST) / (LOUDEST - QUIETEST)).coerceIn(0f, 1f)
        canvas.drawRoundRect(0f, 0f, width.toFloat(), height.toFloat(), round, round, track)
        if (share > 0) {
            val length = maxOf(height.toFloat(), share * width)
            val start = if (layoutDirection == LAYOUT_DIRECTION_RTL) width - length else 0f
            canvas.drawRoundRect(start, 0f, start + length, height.toFloat(), round, round, bar)
        }
    }

    private fun paint(color: Int) = Paint(Paint.ANTI_ALIAS_FLAG).apply {
        this.color = context.getColor(color)
    }

    private companion object {
        const val QUIETEST = -60f
        const val LOUDEST = -10f
    }
}
