import type { ComponentChildren } from "preact";

function Icon(props: { children: ComponentChildren }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
      {props.children}
    </svg>
  );
}

const line = {
  fill: "none",
  stroke: "currentColor",
  "stroke-width": "1.6",
  "stroke-linecap": "round",
  "stroke-linejoin": "round",
} as const;

export function MenuIcon() {
  return (
    <Icon>
      <path d="M2.5 4h11M2.5 8h11M2.5 12h11" {...line} />
    </Icon>
  );
}

export function PauseIcon() {
  return (
    <Icon>
      <path d="M4.5 3h2.5v10H4.5zM9 3h2.5v10H9z" fill="currentColor" />
    </Icon>
  );
}

export function ResumeIcon() {
  return (
    <Icon>
      <path d="M4.8 2.9v10.2L13 8z" fill="currentColor" />
    </Icon>
  );
}

export function StopIcon() {
  return (
    <Icon>
      <rect x="3.6" y="3.6" width="8.8" height="8.8" rx="1.2" fill="currentColor" />
    </Icon>
  );
}

export function CheckIcon() {
  return (
    <Icon>
      <path d="M3.2 8.4l3.2 3.2 6.4-7" {...line} />
    </Icon>
  );
}

export function CrossIcon() {
  return (
    <Icon>
      <path d="M4 4l8 8M12 4l-8 8" {...line} />
    </Icon>
  );
}

export function DotIcon() {
  return (
    <Icon>
      <circle cx="8" cy="8" r="3.6" fill="currentColor" />
    </Icon>
  );
}

export function RingIcon() {
  return (
    <Icon>
      <circle cx="8" cy="8" r="3.6" {...line} />
    </Icon>
  );
}

export function QuestionIcon() {
  return (
    <Icon>
      <path d="M5.4 5.6a2.6 2.6 0 1 1 3.7 2.5c-.8.4-1.1.8-1.1 1.7M8 12.6v.2" {...line} />
    </Icon>
  );
}

export function ChevronIcon() {
  return (
    <Icon>
      <path d="M4 6l4 4 4-4" {...line} />
    </Icon>
  );
}

export function CopyIcon() {
  return (
    <Icon>
      <path d="M5.5 5.5h7.5v7.5H5.5zM3 10.5v-7.5h7.5" {...line} />
    </Icon>
  );
}

export function SaveIcon() {
  return (
    <Icon>
      <path d="M8 2.8v7.4M5 7.4l3 3 3-3M3 13.2h10" {...line} />
    </Icon>
  );
}

export function DotsIcon() {
  return (
    <Icon>
      <circle cx="8" cy="3.4" r="1.3" fill="currentColor" />
      <circle cx="8" cy="8" r="1.3" fill="currentColor" />
      <circle cx="8" cy="12.6" r="1.3" fill="currentColor" />
    </Icon>
  );
}

/** Something comes in. */
export function ImportIcon() {
  return (
    <Icon>
      <path d="M2.8 10v3.2h10.4V10M8 10V2.8M5.2 5.4L8 2.6l2.8 2.8" {...line} />
    </Icon>
  );
}

/** A stretch of training with an end to it. */
export function RunForIcon() {
  return (
    <Icon>
      <path d="M3.4 3.4v9.2L10.4 8z" fill="currentColor" />
      <path d="M12.6 3.4v9.2" {...line} />
    </Icon>
  );
}

export function PinIcon() {
  return (
    <Icon>
      <path d="M5.6 2.8h4.8l-.7 4 2 2.4H4.3l2-2.4zM8 9.4v4" {...line} />
    </Icon>
  );
}

export function MarkersIcon() {
  return (
    <Icon>
      <path d="M8 1.6l2.6 2.6L8 6.8l-2.6-2.6z" fill="currentColor" />
      <path d="M8 8.4v1M8 11v1M8 13.6v.6" {...line} />
    </Icon>
  );
}
