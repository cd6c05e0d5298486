require 'kramdown'

# Answers the event's Markdown as HTML.
def lambda_handler(event:, context:)
  text = event['markdown'] or raise ArgumentError, 'markdown: is missing'
  { html: Kramdown::Document.new(text).to_html }
end
